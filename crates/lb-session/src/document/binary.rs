//! Files that are no text, by the bytes that they begin with.

use std::path::Path;

use super::{converted, quoted};

/// First bytes, what they stand for, and the command that gives the text (`{}` the file, `{out}` the text).
const KINDS: [(&[u8], &str, &str); 22] = [
    (b"%PDF-", "a PDF", "pdftotext -layout {} {out}"),
    (b"\x1F\x8B", "a gzip archive", "gunzip -c {} > {out}"),
    (b"BZh", "a bzip2 archive", "bunzip2 -c {} > {out}"),
    (b"\xFD7zXZ\0", "an xz archive", "xz -dc {} > {out}"),
    (b"\x28\xB5\x2F\xFD", "a zstd archive", "zstd -dc {} > {out}"),
    (b"7z\xBC\xAF\x27\x1C", "a 7z archive", "7z x {}"),
    (b"Rar!\x1A\x07", "a RAR archive", "unrar x {}"),
    (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "an old Office document", "soffice --headless --convert-to txt {}"),
    (b"{\\rtf", "an RTF document", "pandoc -f rtf -t plain {} -o {out}"),
    (b"SQLite format 3\0", "a SQLite database", "sqlite3 {} .dump > {out}"),
    (b"PAR1", "a Parquet file", "convert its rows to text or JSON Lines"),
    (b"GGUF", "a GGUF checkpoint", "that is a model, not a document"),
    (b"\x89PNG\r\n\x1A\n", "a PNG picture", "tesseract {} stdout > {out}"),
    (b"\xFF\xD8\xFF", "a JPEG picture", "tesseract {} stdout > {out}"),
    (b"GIF8", "a GIF picture", "give its text instead"),
    (b"II*\0", "a TIFF picture", "tesseract {} stdout > {out}"),
    (b"RIFF", "a RIFF file (sound, film, picture)", "give its text instead"),
    (b"OggS", "an Ogg file", "give its text instead"),
    (b"ID3", "an MP3 file", "give its text instead"),
    (b"\x7FELF", "a program", "give its text instead"),
    (b"MZ\x90\0", "a program", "give its text instead"),
    (b"\x80\x04\x95", "a Python pickle", "write its text to a file first"),
];

/// What a ZIP archive holds, by the names in it.
const PACKED: [(&[u8], &str, &str); 6] = [
    (b"word/", "a Word document (.docx)", "pandoc -t plain {} -o {out}"),
    (b"xl/", "an Excel workbook (.xlsx)", "save its sheets as CSV"),
    (b"ppt/", "a PowerPoint document (.pptx)", "save its text"),
    (b"application/epub+zip", "an EPUB book", "pandoc -t plain {} -o {out}"),
    (b"application/vnd.oasis", "an OpenDocument file", "pandoc -t plain {} -o {out}"),
    (b"", "a ZIP archive", "unzip {} and give one of its text files"),
];

/// Bytes of a ZIP archive that are searched for names.
const LOOK: usize = 1 << 16;

/// What a file is and how to get its text; `None` where it may be text.
pub(super) fn kind(bytes: &[u8], path: &Path) -> Option<(&'static str, String)> {
    let filled = |advice: &str| {
        let out = converted(&path.with_extension("txt"));
        advice.replace("{out}", &quoted(&out)).replace("{}", &quoted(path))
    };
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        let look = &bytes[..bytes.len().min(LOOK)];
        let has = |name: &[u8]| name.is_empty() || look.windows(name.len()).any(|part| part == name);
        let (_, kind, advice) = PACKED.iter().find(|(name, ..)| has(name))?;
        return Some((kind, filled(advice)));
    }
    let (_, kind, advice) = KINDS.iter().find(|(first, ..)| bytes.starts_with(first))?;
    Some((kind, filled(advice)))
}

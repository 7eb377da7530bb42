//! Text files of users: what is read, and what the others are called.

use std::fs;

use latent_briefing::session::Error;
use latent_briefing::session::{DocumentFault, read_text};

/// Reads bytes as a file of this name.
fn read(name: &str, bytes: &[u8]) -> Result<String, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    read_text(&path)
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(bytes).collect()
}

#[test]
fn utf_8_and_marked_utf_16_are_read_and_the_mark_is_left_out() {
    let text = "Änne zahlte 5 €.\r\n会議 𝄞\n";
    assert_eq!(read("a.txt", text.as_bytes()).unwrap(), text);
    assert_eq!(read("a.txt", &[b"\xEF\xBB\xBF", text.as_bytes()].concat()).unwrap(), text);
    assert_eq!(read("a.txt", &utf16(text, u16::to_le_bytes)).unwrap(), text);
    assert_eq!(read("a.txt", &utf16(text, u16::to_be_bytes)).unwrap(), text);
    for empty in [&b""[..], b"\xEF\xBB\xBF", b"\xFF\xFE", b"\xFE\xFF"] {
        assert_eq!(read("a.txt", empty).unwrap(), "");
    }
    // A zero byte or two do not make a text UTF-16.
    assert_eq!(read("a.txt", b"a column\0another").unwrap(), "a column\0another");
}

#[test]
fn another_encoding_is_named_with_its_first_byte_and_the_command() {
    let ansi = b"Anna zahlte 5 \x80 f\xFCr K\xE4se \x96 heute.\r\n";
    let error = read("doc.txt", ansi).unwrap_err();
    let Error::Document { fault, .. } = &error else { panic!("{error}") };
    let DocumentFault::Encoding { byte, offset, line, encoding, .. } = **fault else { panic!("{fault}") };
    assert_eq!((byte, offset, line, encoding), (0x80, 14, 1, "WINDOWS-1252"));
    let said = error.to_string();
    for part in
        ["doc.txt", "byte 0x80 at offset 14 (line 1)", "iconv -f WINDOWS-1252 -t UTF-8 ", "doc.utf8.txt"]
    {
        assert!(said.contains(part), "{said}");
    }
    // A name that a shell would take apart.
    let said = read("it's mine.txt", b"\nKlaus M\xFCller").unwrap_err().to_string();
    assert!(said.contains(r"it'\''s mine.txt' > '") && said.contains("offset 8 (line 2)"), "{said}");
}

/// Bytes of a text in an encoding, and what it is taken for.
const GUESSES: [(&[u8], &str); 11] = [
    (b"Sm\xF8rrebr\xF8d og k\xE5l", "WINDOWS-1252"),
    // привет мир, это письмо
    (b"\xEF\xF0\xE8\xE2\xE5\xF2 \xEC\xE8\xF0, \xFD\xF2\xEE \xEF\xE8\xF1\xFC\xEC\xEE", "WINDOWS-1251"),
    (b"\xD0\xD2\xC9\xD7\xC5\xD4 \xCD\xC9\xD2, \xDC\xD4\xCF \xD0\xC9\xD3\xD8\xCD\xCF", "KOI8-R"),
    // これは会議です
    (b"\x82\xB1\x82\xEA\x82\xCD\x89\xEF\x8B\x63\x82\xC5\x82\xB7", "SHIFT_JIS"),
    (b"\xA4\xB3\xA4\xEC\xA4\xCF\xB2\xF1\xB5\xC4\xA4\xC7\xA4\xB9", "EUC-JP"),
    // 회의록입니다
    (b"\xC8\xB8\xC0\xC7\xB7\xCF\xC0\xD4\xB4\xCF\xB4\xD9", "EUC-KR"),
    // 会议记录说明
    (b"\xBB\xE1\xD2\xE9\xBC\xC7\xC2\xBC\xCB\xB5\xC3\xF7", "GB18030"),
    (b"F\0r\0a\0u\0 \0M\0\xFC\0l\0l\0e\0r\0", "UTF-16LE"),
    (b"\0F\0r\0a\0u\0 \0M\0\xFC\0l\0l\0e\0r", "UTF-16BE"),
    (b"\xFF\xFE\0\0a\0\0\0b\0\0\0", "UTF-32"),
    (b"a\0\0\0b\0\0\0c\0\0\0d\0\0\0", "UTF-32LE"),
];

#[test]
fn encodings_are_guessed_by_what_their_bytes_look_like() {
    for (bytes, wanted) in GUESSES {
        let said = read("a.txt", bytes).unwrap_err().to_string();
        assert!(said.contains(&format!("iconv -f {wanted} -t UTF-8")), "{wanted}: {said}");
    }
}

#[test]
fn files_that_are_no_text_are_called_by_their_kind() {
    let docx = [&b"PK\x03\x04\x14\0"[..], &[0_u8; 22], b"word/document.xml"].concat();
    let kinds: [(&[u8], &str, &str); 8] = [
        (b"%PDF-1.7\n%\xE2\xE3", "a PDF", "pdftotext -layout"),
        (b"PK\x03\x04\x14\0\0\0a.txt", "a ZIP archive", "unzip"),
        (&docx, "a Word document", "pandoc"),
        (b"\x1F\x8B\x08\0", "a gzip archive", "gunzip -c"),
        (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "an old Office document", "soffice"),
        (b"\x89PNG\r\n\x1A\n", "a PNG picture", "tesseract"),
        (b"{\\rtf1\\ansi text}", "an RTF document", "pandoc"),
        (b"GGUF\x03\0\0\0", "a GGUF checkpoint", "model"),
    ];
    for (bytes, kind, advice) in kinds {
        let said = read("given.bin", bytes).unwrap_err().to_string();
        assert!(said.contains(&format!("is {kind}")) && said.contains(advice), "{said}");
    }
}

#[test]
fn what_is_cut_short_or_half_or_not_there_is_said_so() {
    let cut = "Käse für Köln, ü".as_bytes();
    let cases: [(Vec<u8>, &str); 4] = [
        (cut[..cut.len() - 1].to_vec(), "in the middle of a character"),
        (b"\xFF\xFEa\0b".to_vec(), "ends at offset 4 in the middle of a character"),
        (b"\xFF\xFEa\0\x3D\xD8b\0".to_vec(), "at offset 4 there is half a pair"),
        (b"\xEF\xBB\xBFK\xFF".to_vec(), "byte 0xFF at offset 4 (line 1)"),
    ];
    for (bytes, wanted) in cases {
        let said = read("a.txt", &bytes).unwrap_err().to_string();
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(read_text(dir.path()).unwrap_err().to_string().contains("is a folder"));
    let error = read_text(dir.path().join("missing.txt")).unwrap_err();
    assert!(matches!(&error, Error::Document { fault, .. } if matches!(**fault, DocumentFault::Io(_))));
    assert!(error.to_string().contains("missing.txt"));
}

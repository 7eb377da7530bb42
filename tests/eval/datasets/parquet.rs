//! LongBench v2 as Parquet.

use std::sync::Arc;

use latent_briefing::eval::Error;
use latent_briefing::eval::datasets::{Fault, FileFault, FileKind, LoadOptions, load, synthetic};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use serde_json::Value;

use super::{file, ids, read};
use crate::support::assert_error;

const FIELDS: [&str; 12] = [
    "_id",
    "domain",
    "sub_domain",
    "difficulty",
    "length",
    "question",
    "choice_A",
    "choice_B",
    "choice_C",
    "choice_D",
    "answer",
    "context",
];

/// A file of string columns; `None` is null. Rows in groups of `group`.
fn write(fields: &[&str], rows: &[Vec<Option<Vec<u8>>>], group: usize, codec: Compression) -> Vec<u8> {
    let columns: Vec<String> = fields.iter().map(|f| format!("OPTIONAL BYTE_ARRAY {f} (UTF8);")).collect();
    let schema =
        Arc::new(parse_message_type(&format!("message schema {{ {} }}", columns.join(" "))).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(codec).build());
    let mut out = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut out, schema, properties).unwrap();
    for rows in rows.chunks(group) {
        let mut row_group = writer.next_row_group().unwrap();
        for column in 0..fields.len() {
            let mut to = row_group.next_column().unwrap().unwrap();
            let cells = rows.iter().map(|row| &row[column]);
            let levels: Vec<i16> = cells.clone().map(|cell| i16::from(cell.is_some())).collect();
            let values: Vec<ByteArray> = cells.flatten().map(|cell| ByteArray::from(cell.clone())).collect();
            to.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
            to.close().unwrap();
        }
        row_group.close().unwrap();
    }
    writer.close().unwrap();
    out
}

fn rows() -> Vec<Vec<Option<Vec<u8>>>> {
    let row = |line: &str| {
        let item: Value = serde_json::from_str(line).unwrap();
        FIELDS.iter().map(|f| Some(item[*f].as_str().unwrap().as_bytes().to_vec())).collect()
    };
    synthetic::BUNDLED.lines().take(20).map(row).collect()
}

#[test]
fn parquet_holds_what_json_holds() {
    let bundled = synthetic::bundled().unwrap();
    for codec in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default())] {
        for group in [20, 7] {
            // The name is of another format.
            let file = file("data.json", write(&FIELDS, &rows(), group, codec));
            assert_eq!(FileKind::detect(&file.path).unwrap(), FileKind::LongBenchV2);
            let loaded = read(&file, FileKind::LongBenchV2);
            assert!(loaded.faults.is_empty() && loaded.items.len() == 20, "{:?}", loaded.faults);
            for (row, (got, wanted)) in loaded.items.iter().zip(&bundled).enumerate() {
                assert_eq!((got.line, &got.id, &got.kind), (row + 1, &wanted.id, &wanted.kind));
                assert_eq!(got.context, wanted.context);
            }
        }
    }
}

#[test]
fn rows_at_fault_are_named_and_the_rest_is_read() {
    let mut rows = rows();
    rows[1][11] = None;
    rows[2][5] = Some(b"bad \xFF byte".to_vec());
    rows[3][10] = Some(b"X".to_vec());
    rows[4][0] = rows[0][0].clone();
    rows[5][11] = Some(vec![b'x'; 5000]);
    let names: Vec<String> =
        rows.iter().map(|row| String::from_utf8(row[0].clone().unwrap()).unwrap()).collect();
    let file = file("data.parquet", write(&FIELDS, &rows, 6, Compression::SNAPPY));
    let largest = rows.iter().flatten().flatten().map(Vec::len).filter(|n| *n != 5000).max().unwrap();
    let options = LoadOptions { max_item_bytes: largest.min(4999), ..LoadOptions::default() };
    let loaded = load(&file.path, FileKind::LongBenchV2, &options).unwrap();
    let faults: Vec<(usize, &str)> =
        loaded.faults.iter().map(|f| (f.line, f.id.as_deref().unwrap())).filter(|(l, _)| *l < 7).collect();
    let wanted: Vec<(usize, &str)> = (2..7).map(|line| (line, names[line - 1].as_str())).collect();
    assert_eq!(faults, wanted);
    let kinds: Vec<&Fault> = loaded.faults.iter().map(|f| &f.fault).collect();
    assert!(
        matches!(kinds[0], Fault::Missing { field } if field == "context")
            || matches!(kinds[0], Fault::Type { .. })
    );
    assert!(matches!(kinds[1], Fault::NotUtf8 { at: 4 }), "{:?}", kinds[1]);
    assert!(matches!(kinds[3], Fault::DuplicateId { first_line: 1 }), "{:?}", kinds[3]);
    assert!(matches!(kinds[4], Fault::TooLarge { .. }), "{:?}", kinds[4]);
    assert!(ids(&loaded).contains(&names[0].as_str()));
}

#[test]
fn other_schemas_and_damage_have_their_errors() {
    let open = |bytes: &[u8]| {
        let file = file("data.parquet", bytes);
        load(&file.path, FileKind::LongBenchV2, &LoadOptions::default())
    };
    let whole = write(&FIELDS, &rows(), 20, Compression::SNAPPY);
    for cut in [4, 12, whole.len() / 2, whole.len() - 1] {
        let error = open(&whole[..cut]).unwrap_err();
        assert_error!(
            error,
            Error::Dataset { source: FileFault::Parquet { .. }, .. },
            "data.parquet",
            "damaged"
        );
    }
    let few =
        write(&["_id", "context"], &[vec![Some(b"a".to_vec()), Some(b"b".to_vec())]], 1, Compression::SNAPPY);
    let loaded = open(&few).unwrap();
    assert!(matches!(&loaded.faults[0].fault, Fault::Missing { field } if field == "choice_A"));
    let schema = "message schema { REQUIRED group a { REQUIRED INT32 b; } }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut nested = Vec::new();
    SerializedFileWriter::new(&mut nested, schema, Arc::default()).unwrap().close().unwrap();
    assert_error!(open(&nested).unwrap_err(), Error::Dataset { .. }, "not nested");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn damaged_bytes_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        tail in any::<bool>(),
    ) {
        let mut bytes = write(&FIELDS, &rows()[..4], 2, Compression::ZSTD(ZstdLevel::default()));
        let from = if tail { bytes.len().saturating_sub(1500) } else { 4 };
        for (index, byte) in edits {
            let at = from + index.index(bytes.len() - from);
            bytes[at] = byte;
        }
        let file = file("data.parquet", &bytes);
        match load(&file.path, FileKind::LongBenchV2, &LoadOptions::default()) {
            Ok(loaded) => prop_assert!(loaded.items.len() + loaded.faults.len() <= 1 << 20),
            Err(error) => prop_assert!(matches!(error, Error::Dataset { .. }), "{error:?}"),
        }
    }
}

//! One set in every layout that sets of embeddings come in.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::{
    ArrayRef, FixedSizeListArray, PrimitiveArray, RecordBatch, StringArray, types::Float16Type,
};
use arrow_schema::{DataType, Field};
use half::f16;
use parquet::arrow::ArrowWriter;

/// A zip file of members, deflated or stored.
fn zip(members: &[(&str, &[u8])], deflate: bool) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let packed = if deflate {
            let mut encoder =
                flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        } else {
            bytes.to_vec()
        };
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let mut common = vec![20, 0, 0, 0, if deflate { 8 } else { 0 }, 0, 0, 0, 0, 0];
        common.extend(crc.sum().to_le_bytes());
        common.extend((packed.len() as u32).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend((out.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(packed);
    }
    let at = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((members.len() as u16).to_le_bytes());
    out.extend((members.len() as u16).to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(at.to_le_bytes());
    out.extend([0, 0]);
    out
}

fn embedding_column(npy: &[u8], rows: usize) -> ArrayRef {
    let data = &npy[npy.len() - rows * 16..];
    let values: Vec<f16> = data
        .chunks(2)
        .map(|pair| f16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    let values = Arc::new(PrimitiveArray::<Float16Type>::from_iter_values(values));
    let item = Arc::new(Field::new("item", DataType::Float16, false));
    Arc::new(FixedSizeListArray::new(item, 8, values, None))
}

/// A set of 61 rows in clip-retrieval's layout, `small`, in every layout: clip-retrieval's, DataComp's stored and deflated, Parquet's.
pub fn layouts(small: &Path, dir: &Path) -> Vec<PathBuf> {
    let read = |name: &str| std::fs::read(small.join(name)).unwrap();
    let images = read("img_emb/img_emb_8.npy");
    let texts = read("text_emb/text_emb_8.npy");
    let metadata = read("metadata/metadata_8.parquet");
    let clip = dir.join("clip");
    for (folder, name, bytes) in [
        ("img_emb", "img_emb_8.npy", &images),
        ("text_emb", "text_emb_8.npy", &texts),
        ("metadata", "metadata_8.parquet", &metadata),
    ] {
        std::fs::create_dir_all(clip.join(folder)).unwrap();
        std::fs::write(clip.join(folder).join(name), bytes).unwrap();
    }
    let mut folders = vec![clip];
    for (name, deflate) in [("stored", false), ("deflated", true)] {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let members: [(&str, &[u8]); 2] = [("l14_img.npy", &images), ("l14_txt.npy", &texts)];
        std::fs::write(folder.join("00ab.npz"), zip(&members, deflate)).unwrap();
        std::fs::write(folder.join("00ab.parquet"), &metadata).unwrap();
        folders.push(folder);
    }
    let folder = dir.join("columns");
    std::fs::create_dir_all(&folder).unwrap();
    let keys: Vec<String> = (0..61).map(|row| format!("{row:010}")).collect();
    let batch = RecordBatch::try_from_iter([
        ("key", Arc::new(StringArray::from(keys)) as ArrayRef),
        ("image_embedding", embedding_column(&images, 61)),
        ("text_embedding", embedding_column(&texts, 61)),
    ])
    .unwrap();
    let file = File::create(folder.join("part-0.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    folders.push(folder);
    folders
}

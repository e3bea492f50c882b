//! Trees, archives and images made for a test.
#![allow(clippy::unwrap_used, dead_code)]

use std::fs;
use std::io::{Cursor, Write};
use std::path::PathBuf;

use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, RgbImage};
use tempfile::TempDir;

/// A folder that holds a tree and, once something is loaded, a library.
pub(crate) struct Place {
    root: TempDir,
}

impl Place {
    pub(crate) fn with(files: &[(String, Vec<u8>)]) -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.tree()).unwrap();
        for (name, bytes) in files {
            let path = place.tree().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        place
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.root.path().join("around/tree")
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.root.path().join("library")
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.root.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

pub(crate) fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

pub(crate) fn jpeg(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(image).unwrap();
    bytes
}

/// A zip archive in which every other entry is compressed.
pub(crate) fn zip(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (number, (name, bytes)) in files.iter().enumerate() {
        let method = if number % 2 == 0 { zip::CompressionMethod::Stored } else { zip::CompressionMethod::Deflated };
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        writer.start_file(name.as_str(), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

//! Picture files as network input.
//!
//! A picture of exactly the network's size is taken as it is. Any other is scaled so that its shorter
//! side fits (bilinear), then cropped around its centre. Colour becomes grey where the network takes
//! one channel (ITU-R BT.709 luma); transparency is dropped.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{DynamicImage, GenericImageView, ImageReader};
use neokd_evaluate::{Error, files};

/// Endings of the formats that this build decodes.
const ENDINGS: [&str; 7] = ["png", "jpg", "jpeg", "bmp", "gif", "webp", "pnm"];

/// The given files, and the pictures in the given folders and below, sorted.
///
/// # Errors
/// [`Error::Io`] names a path that is not there; [`Error::Config`] if there is no picture at all.
pub fn list(sources: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for source in sources {
        match std::fs::metadata(source).map_err(Error::io("read", source))?.is_dir() {
            true => below(source, &mut found)?,
            false => found.push(source.clone()),
        }
    }
    match found.is_empty() {
        true => Err(Error::Config(format!("no pictures found; these endings are read: {}", ENDINGS.join(", ")))),
        false => Ok(found),
    }
}

fn below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(folder).and_then(Iterator::collect);
    let mut paths: Vec<PathBuf> =
        entries.map_err(Error::io("read", folder))?.iter().map(std::fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        let ending = path.extension().map(|end| end.to_string_lossy().to_lowercase()).unwrap_or_default();
        if path.is_dir() {
            below(&path, found)?;
        } else if ENDINGS.contains(&ending.as_str()) {
            found.push(path);
        }
    }
    Ok(())
}

/// Pixels `[channels, height, width]` of one picture.
///
/// # Errors
/// [`Error::Io`] or [`Error::Picture`] names the file.
pub fn read(path: &Path, [channels, height, width]: [usize; 3]) -> Result<Vec<u8>, Error> {
    let bad = |error: image::ImageError| Error::Picture { file: path.to_path_buf(), why: error.to_string() };
    let bytes = files::read(path)?;
    if let Some(why) = neokd_datasets::jpeg_problem(&bytes) {
        return Err(Error::Picture { file: path.to_path_buf(), why: why.to_string() });
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(Error::io("read", path))?;
    let fitted = fit(reader.decode().map_err(bad)?, width as u32, height as u32);
    Ok(match channels {
        1 => fitted.to_luma8().into_raw(),
        _ => planar(&fitted.to_rgb8().into_raw(), height * width),
    })
}

fn fit(picture: DynamicImage, width: u32, height: u32) -> DynamicImage {
    let (w, h) = picture.dimensions();
    if (w, h) == (width, height) {
        return picture;
    }
    let scale = (f64::from(width) / f64::from(w)).max(f64::from(height) / f64::from(h));
    let scaled = |side: u32, least: u32| ((f64::from(side) * scale).round() as u32).max(least);
    let (w, h) = (scaled(w, width), scaled(h, height));
    picture.resize_exact(w, h, FilterType::Triangle).crop_imm((w - width) / 2, (h - height) / 2, width, height)
}

fn planar(interleaved: &[u8], pixels: usize) -> Vec<u8> {
    (0..3).flat_map(|channel| (0..pixels).map(move |pixel| interleaved[3 * pixel + channel])).collect()
}

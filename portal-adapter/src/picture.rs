//! Pictures of pupils: read as JPEG or PNG, made small, drawn anew as JPEG, so that nothing else of an uploaded file is kept; a file each in the
//! data folder, under the account's number.

use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use frokost_engine::AccountId;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, ImageReader, Limits, Rgb, RgbImage, Rgba, RgbaImage};

use frokost_net::wire::response::PICTURE_LIMIT;

use crate::Portal;
use crate::error::PortalError;
use crate::session::blocking;

/// The most an uploaded file may have.
pub(crate) const MOST_BYTES: usize = 5 << 20;
/// What is kept is at most so many pixels wide and high.
const SIDE: u32 = 400;

/// Where the picture of an account's pupil is, if there is one.
#[must_use]
pub fn file(folder: &Path, account: AccountId) -> PathBuf {
    folder.join(format!("{}.jpg", account.0))
}

fn path(portal: &Portal, account: AccountId) -> PathBuf {
    file(&portal.setup.pictures, account)
}

pub(crate) fn is_there(portal: &Portal, account: AccountId) -> bool {
    path(portal, account).exists()
}

pub(crate) async fn read(portal: &Portal, account: AccountId) -> Result<Option<Vec<u8>>, PortalError> {
    let path = path(portal, account);
    blocking(move || match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    })
    .await
}

/// Keeps a picture; false if it is none.
pub(crate) async fn keep(portal: &Portal, account: AccountId, bytes: Vec<u8>) -> Result<bool, PortalError> {
    let path = path(portal, account);
    // One at a time: a picture takes a hundred times its file while it is drawn.
    let _place = portal.drawing.acquire().await.map_err(|error| PortalError::Internal(error.to_string()))?;
    blocking(move || -> std::io::Result<bool> {
        let Some(drawn) = draw_anew(&bytes) else { return Ok(false) };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let beside = path.with_extension("new");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&drawn)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        Ok(true)
    })
    .await
}

pub(crate) async fn delete(portal: &Portal, account: AccountId) -> Result<(), PortalError> {
    let path = path(portal, account);
    blocking(move || match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    })
    .await
}

/// The picture in `bytes`, small and as JPEG; nothing if it is no JPEG or PNG, or larger than any camera makes.
fn draw_anew(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() > MOST_BYTES {
        return None;
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
    if !matches!(reader.format(), Some(ImageFormat::Jpeg | ImageFormat::Png)) {
        return None;
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(12_000);
    limits.max_image_height = Some(12_000);
    limits.max_alloc = Some(128 << 20);
    reader.limits(limits);
    let small = on_white(&reader.decode().ok()?.thumbnail(SIDE, SIDE).to_rgba8());
    // Coarser until a till can have it in one answer.
    [85, 70, 50, 30].into_iter().find_map(|quality| {
        let mut drawn = Vec::new();
        JpegEncoder::new_with_quality(&mut drawn, quality).encode_image(&small).ok()?;
        (drawn.len() <= PICTURE_LIMIT).then_some(drawn)
    })
}

/// JPEG knows nothing of what is transparent: it is drawn on white, not on black.
fn on_white(picture: &RgbaImage) -> RgbImage {
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let Rgba([red, green, blue, opaque]) = *picture.get_pixel(x, y);
        let mix = |colour: u8| {
            let mixed = (u32::from(colour) * u32::from(opaque) + 255 * u32::from(255 - opaque)) / 255;
            u8::try_from(mixed).unwrap_or(u8::MAX)
        };
        Rgb([mix(red), mix(green), mix(blue)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few bytes can ask for more memory than there is.
    #[test]
    fn a_picture_with_too_many_pixels_is_not_drawn() {
        let png = |width: u32| {
            let mut png = Vec::new();
            image::RgbImage::new(width, 1).write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
            png
        };
        assert!(draw_anew(&png(12_000)).is_some());
        assert!(draw_anew(&png(12_001)).is_none());
    }

    #[test]
    fn only_the_pixels_are_kept() {
        let mut png = Vec::new();
        image::RgbImage::from_pixel(900, 450, image::Rgb([200, 30, 30]))
            .write_to(&mut Cursor::new(&mut png), ImageFormat::Png)
            .unwrap();
        png.extend_from_slice(b"<script>alert(1)</script>");
        let drawn = draw_anew(&png).unwrap();
        assert_eq!(image::load_from_memory(&drawn).unwrap().width(), SIDE);
        assert!(!drawn.windows(7).any(|window| window == b"<script"));
        let clear = RgbaImage::from_pixel(2, 1, Rgba([0, 0, 0, 0]));
        assert_eq!(on_white(&clear).get_pixel(0, 0), &Rgb([255, 255, 255]));
        for other in [&b"GIF89a"[..], b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"", &png[..40]] {
            assert!(draw_anew(other).is_none());
        }
        assert!(draw_anew(&vec![0; MOST_BYTES + 1]).is_none());
    }
}

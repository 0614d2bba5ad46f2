//! A drawing in pixels.

use anyhow::{Context, Result, bail};
use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree, fontdb::Database},
};

/// Two pixels to each of the drawing's own, with labels in a font of this machine.
///
/// # Errors
/// When the machine has no font.
pub fn png(drawing: &str) -> Result<Vec<u8>> {
    const SCALE: f32 = 2.0;
    let mut options = Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    let Some(family) = sans_serif(fonts) else {
        bail!("there is no font on this machine to write labels in: install one, or draw as .svg");
    };
    fonts.set_sans_serif_family(family);
    let tree = Tree::from_str(drawing, &options)?;
    let size = tree.size().to_int_size().scale_by(SCALE);
    let pixels = size.and_then(|size| Pixmap::new(size.width(), size.height()));
    let mut pixels = pixels.context("the drawing is empty")?;
    resvg::render(
        &tree,
        Transform::from_scale(SCALE, SCALE),
        &mut pixels.as_mut(),
    );
    Ok(pixels.encode_png()?)
}

/// The font that stands for sans-serif: a usual one, or any.
fn sans_serif(fonts: &Database) -> Option<String> {
    const USUAL: [&str; 5] = [
        "Arial",
        "Helvetica",
        "DejaVu Sans",
        "Liberation Sans",
        "Noto Sans",
    ];
    let families = || fonts.faces().flat_map(|face| &face.families);
    let usual = USUAL
        .iter()
        .find(|name| families().any(|(family, _)| family == **name));
    let usual = usual.map(|name| (*name).to_owned());
    usual.or_else(|| families().next().map(|(family, _)| family.clone()))
}

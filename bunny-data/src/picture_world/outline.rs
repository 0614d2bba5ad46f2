//! The outlines of shapes, as signed distances: negative inside, in units of the shape's radius.
//!
//! Only sums, products, quotients and square roots are taken, which IEEE 754 fixes to the bit, so
//! that a picture is the same on every machine.

use super::vocabulary::Shape;

type Point = [f32; 2];

/// The signed distance of a point from the outline of a shape of radius 1 around 0; `y` points
/// down.
pub(super) fn distance(shape: Shape, p: Point) -> f32 {
    match shape {
        Shape::Circle => length(p) - 0.92,
        Shape::Square => rectangle(p, [0.80, 0.80]),
        Shape::Triangle => polygon(p, &TRIANGLE),
        Shape::Star => polygon(p, &STAR),
        Shape::Diamond => polygon(p, &DIAMOND),
        Shape::Cross => rectangle(p, [0.95, 0.31]).min(rectangle(p, [0.31, 0.95])),
        Shape::Ring => (length(p) - 0.72).abs() - 0.25,
        Shape::Heart => heart(p),
    }
}

const TRIANGLE: [Point; 3] = [[0.0, -0.95], [0.98, 0.78], [-0.98, 0.78]];

const DIAMOND: [Point; 4] = [[0.0, -1.0], [0.64, 0.0], [0.0, 1.0], [-0.64, 0.0]];

/// Points at radius 1 and 0.45, 36 degrees apart: sines and cosines written down.
const STAR: [Point; 10] = [
    [0.0, -1.0],
    [0.264_503, -0.364_058],
    [0.951_057, -0.309_017],
    [0.427_975, 0.139_058],
    [0.587_785, 0.809_017],
    [0.0, 0.45],
    [-0.587_785, 0.809_017],
    [-0.427_975, 0.139_058],
    [-0.951_057, -0.309_017],
    [-0.264_503, -0.364_058],
];

fn length([x, y]: Point) -> f32 {
    (x * x + y * y).sqrt()
}

fn rectangle([x, y]: Point, [half_x, half_y]: Point) -> f32 {
    let (x, y) = (x.abs() - half_x, y.abs() - half_y);
    length([x.max(0.0), y.max(0.0)]) + x.max(y).min(0.0)
}

/// The distance of a point from a line between two others.
pub(super) fn to_line([x, y]: Point, [ax, ay]: Point, [bx, by]: Point) -> f32 {
    let (dx, dy) = (bx - ax, by - ay);
    let squared = dx * dx + dy * dy;
    let along = if squared > 0.0 {
        (((x - ax) * dx + (y - ay) * dy) / squared).clamp(0.0, 1.0)
    } else {
        0.0
    };
    length([x - ax - along * dx, y - ay - along * dy])
}

/// Even-odd rule for the side, the nearest edge for the distance.
fn polygon([x, y]: Point, corners: &[Point]) -> f32 {
    let (mut nearest, mut inside) = (f32::INFINITY, false);
    let mut before = corners[corners.len() - 1];
    for &corner in corners {
        nearest = nearest.min(to_line([x, y], before, corner));
        if (before[1] > y) != (corner[1] > y) {
            let crossing =
                before[0] + (y - before[1]) / (corner[1] - before[1]) * (corner[0] - before[0]);
            inside ^= x < crossing;
        }
        before = corner;
    }
    if inside { -nearest } else { nearest }
}

/// Two discs and the corner below them: a heart's lower half is a square on its tip, its upper half
/// two half discs on that square's upper sides.
fn heart([x, y]: Point) -> f32 {
    /// Half the diagonal of the square.
    const HALF: f32 = 0.70;
    let (x, y) = (x.abs(), y - 0.12);
    let diamond = polygon(
        [x, y],
        &[[0.0, -HALF], [HALF, 0.0], [0.0, HALF], [-HALF, 0.0]],
    );
    // The disc stands on the middle of the upper right side, its diameter that side.
    let disc = length([x - HALF / 2.0, y + HALF / 2.0]) - HALF * std::f32::consts::FRAC_1_SQRT_2;
    diamond.min(disc)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points of the square from -1 to 1 on a grid.
    fn grid() -> impl Iterator<Item = Point> {
        let steps = 80;
        let at = move |step| (2 * step + 1) as f32 / steps as f32 - 1.0;
        (0..steps).flat_map(move |y| (0..steps).map(move |x| [at(x), at(y)]))
    }

    #[test]
    fn shapes_fill_their_circle_and_do_not_leave_it() {
        for &shape in Shape::ALL {
            let inside: Vec<Point> = grid().filter(|p| distance(shape, *p) < 0.0).collect();
            let area = 4.0 * inside.len() as f32 / 6400.0;
            assert!((0.9..2.8).contains(&area), "{shape}: area {area}");
            let farthest = inside.iter().copied().map(length).fold(0.0, f32::max);
            assert!((0.85..1.27).contains(&farthest), "{shape}: {farthest}");
        }
    }

    #[test]
    fn the_area_of_polygons_is_that_of_the_shoelace_formula() {
        for (shape, corners) in [
            (Shape::Triangle, &TRIANGLE[..]),
            (Shape::Star, &STAR),
            (Shape::Diamond, &DIAMOND),
        ] {
            let shoelace: f32 = (0..corners.len())
                .map(|at| {
                    let (a, b) = (corners[at], corners[(at + 1) % corners.len()]);
                    a[0] * b[1] - b[0] * a[1]
                })
                .sum::<f32>()
                / 2.0;
            let inside = grid().filter(|p| distance(shape, *p) < 0.0).count();
            let area = 4.0 * inside as f32 / 6400.0;
            assert!(
                (area - shoelace.abs()).abs() < 0.03,
                "{shape}: {area}, {shoelace}"
            );
        }
    }

    #[test]
    fn distances_grow_no_faster_than_the_way() {
        for &shape in Shape::ALL {
            for p in grid() {
                let step = [p[0] + 0.01, p[1]];
                let grown = (distance(shape, step) - distance(shape, p)).abs();
                assert!(grown <= 0.0101, "{shape} at {p:?}: {grown}");
            }
        }
    }
}

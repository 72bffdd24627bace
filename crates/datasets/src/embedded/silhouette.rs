//! The ten outlines of the embedded images, as tests of a point in the unit box.

/// Class names by label.
pub(super) const CLASSES: [&str; 10] =
    ["disc", "ring", "square", "frame", "triangle", "cross", "star", "crescent", "bars", "corner"];

/// Whether (u, v), u to the right and v down, lies inside the outline of class `class`; outlines fill about [-1, 1]².
pub(super) fn inside(class: u8, u: f32, v: f32) -> bool {
    let square = u * u + v * v;
    match class {
        0 => square <= 0.9,
        1 => (0.3..=1.0).contains(&square),
        2 => u.abs() <= 0.82 && v.abs() <= 0.82,
        3 => {
            let edge = u.abs().max(v.abs());
            (0.5..=0.9).contains(&edge)
        }
        4 => v <= 0.75 && 1.75 * u.abs() <= v + 0.95,
        5 => u.abs().min(v.abs()) <= 0.28 && u.abs().max(v.abs()) <= 0.98,
        6 => star(u, v),
        7 => square <= 1.0 && (u - 0.45).powi(2) + v * v > 0.62,
        8 => (0.28..=0.85).contains(&u.abs()) && v.abs() <= 0.9,
        _ => (u <= -0.3 || v >= 0.3) && u.abs() <= 0.9 && v.abs() <= 0.9,
    }
}

/// Five-pointed star, one point up: in each of ten mirrored sectors the edge is a straight line.
fn star(u: f32, v: f32) -> bool {
    const SECTOR: f32 = std::f32::consts::TAU / 5.0;
    const INNER: f32 = 0.42;
    const OUTER: f32 = 1.08;
    let radius = (u * u + v * v).sqrt();
    // Angle from the nearest point of the star, 0 at the point and half a sector in the notch.
    let angle = (u.atan2(-v).rem_euclid(SECTOR) - SECTOR / 2.0).abs();
    let angle = SECTOR / 2.0 - angle;
    let (x, y) = (radius * angle.cos(), radius * angle.sin());
    let (notch_x, notch_y) = (INNER * (SECTOR / 2.0).cos(), INNER * (SECTOR / 2.0).sin());
    // On the centre's side of the line from the point (OUTER, 0) to the notch.
    (notch_x - OUTER) * y - notch_y * (x - OUTER) >= 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines_differ_and_have_sane_areas() {
        let grid = |class: u8| -> Vec<bool> {
            (0..40 * 40)
                .map(|i| inside(class, (i % 40) as f32 / 18.0 - 1.1, (i / 40) as f32 / 18.0 - 1.1))
                .collect()
        };
        let grids: Vec<_> = (0..10).map(grid).collect();
        for (class, a) in grids.iter().enumerate() {
            let area = a.iter().filter(|&&x| x).count();
            assert!((250..1100).contains(&area), "{} {area}", CLASSES[class]);
            for (other, b) in grids.iter().enumerate().skip(class + 1) {
                let differing = a.iter().zip(b).filter(|(a, b)| a != b).count();
                assert!(differing > 120, "{} {} {differing}", CLASSES[class], CLASSES[other]);
            }
        }
        assert!(star(0.0, -1.0) && !star(0.0, 1.0) && star(0.0, 0.0));
    }
}

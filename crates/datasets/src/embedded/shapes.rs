//! Embedded images: one textured shape of ten on a textured, cluttered, noisy ground.
//!
//! Position, size, rotation, colours, texture, clutter and noise are random and independent of the class (the shape is the
//! brighter of the two), so only the outline tells it: a linear classifier sees next to nothing, a small CNN's edges and corners suffice.
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::Sizes;
use super::difficulty::shapes as hard;
use super::silhouette::{CLASSES, inside};
use crate::stream::{Draw, Purpose, stream};
use crate::{Dataset, InputGrid, Origin, Split, Task};

const SIDE: usize = 32;
const IMAGE: usize = SIDE * SIDE * 3;
/// Samples per pixel side of the outline, against staircase edges.
const SUBPIXELS: usize = 2;

type Colour = [f32; 3];

/// Makes the set; sample i is a pure function of (`seed`, i) with label i mod 10, and ids run through train, validation,
/// test.
pub fn shapes(sizes: Sizes, seed: u64) -> Dataset {
    let split = |first: usize, n: usize| {
        let mut codes = vec![0u8; n * IMAGE];
        codes.par_chunks_exact_mut(IMAGE).enumerate().for_each(|(i, image)| draw(seed, first + i, image));
        Split {
            codes,
            labels: (first..first + n).map(label).collect(),
            ids: (first..first + n).map(|id| id as u32).collect(),
        }
    };
    let mut dataset = Dataset {
        name: Task::SyntheticShapes.to_string(),
        shape: [SIDE, SIDE, 3],
        grid: InputGrid::PIXELS,
        classes: CLASSES.map(str::to_owned).to_vec(),
        train: split(0, sizes.train),
        validation: split(sizes.train, sizes.validation),
        test: split(sizes.train + sizes.validation, sizes.test),
        checksum: String::new(),
        origin: Origin::Embedded,
        note: format!("Synthetic shapes made by code (seed {seed}); not CIFAR-10."),
        warnings: Vec::new(),
        speech: None,
    };
    dataset.checksum = dataset.content_checksum();
    dataset
}

fn label(id: usize) -> u8 {
    (id % CLASSES.len()) as u8
}

/// A texture: a plane wave, a product of two, or nothing, of random period and direction.
struct Texture {
    kind: usize,
    amplitude: f32,
    wave: [f32; 2],
    phase: f32,
}

impl Texture {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        let frequency = std::f32::consts::TAU / rng.range(3.0, 14.0);
        let direction = rng.range(0.0, std::f32::consts::TAU);
        Texture {
            kind: rng.below(3),
            amplitude: rng.range(hard::TEXTURE[0], hard::TEXTURE[1]),
            wave: [frequency * direction.cos(), frequency * direction.sin()],
            phase: rng.range(0.0, std::f32::consts::TAU),
        }
    }

    fn at(&self, x: f32, y: f32) -> f32 {
        let along = self.wave[0] * x + self.wave[1] * y + self.phase;
        self.amplitude
            * match self.kind {
                0 => along.sin(),
                1 => along.sin() * (self.wave[0] * y - self.wave[1] * x).sin(),
                _ => 0.0,
            }
    }
}

fn colour(rng: &mut ChaCha8Rng) -> Colour {
    [rng.range(20.0, 235.0), rng.range(20.0, 235.0), rng.range(20.0, 235.0)]
}

fn brightness(colour: Colour) -> f32 {
    colour.iter().sum()
}

fn draw(seed: u64, id: usize, image: &mut [u8]) {
    let rng = &mut stream(seed, Purpose::Shape, [0, id as u64]);
    let class = label(id);
    let radius = rng.range(hard::RADIUS[0], hard::RADIUS[1]);
    let stretch = hard::STRETCH.powf(rng.range(-1.0, 1.0));
    let (sin, cos) = (hard::ROTATION * rng.range(-1.0, 1.0)).to_radians().sin_cos();
    let room = SIDE as f32 / 2.0 - radius;
    let centre =
        [SIDE as f32 / 2.0 + room * rng.range(-1.0, 1.0), SIDE as f32 / 2.0 + room * rng.range(-1.0, 1.0)];

    let mut ground = colour(rng);
    let mut fill = colour(rng);
    // Independent colours until one is brighter enough; the brighter one is the shape's.
    while (brightness(fill) - brightness(ground)).abs() < hard::CONTRAST {
        fill = colour(rng);
    }
    if brightness(fill) < brightness(ground) {
        std::mem::swap(&mut fill, &mut ground);
    }
    let (ground_texture, fill_texture) = (Texture::new(rng), Texture::new(rng));
    let mut canvas = [[0.0f32; 3]; SIDE * SIDE];
    for (i, pixel) in canvas.iter_mut().enumerate() {
        let (x, y) = ((i % SIDE) as f32, (i / SIDE) as f32);
        let shade = ground_texture.at(x, y);
        *pixel = ground.map(|channel| channel + shade);
    }
    for _ in 0..rng.below(hard::CLUTTER + 1) {
        stroke(rng, &mut canvas);
    }
    for (i, pixel) in canvas.iter_mut().enumerate() {
        let (x, y) = ((i % SIDE) as f32, (i / SIDE) as f32);
        let mut covered = 0;
        for sub in 0..SUBPIXELS * SUBPIXELS {
            let part = |k: usize| (k as f32 + 0.5) / SUBPIXELS as f32;
            let dx = x + part(sub % SUBPIXELS) - centre[0];
            let dy = y + part(sub / SUBPIXELS) - centre[1];
            let (u, v) = (cos * dx + sin * dy, cos * dy - sin * dx);
            covered += usize::from(inside(class, u * stretch / radius, v / (stretch * radius)));
        }
        let cover = covered as f32 / (SUBPIXELS * SUBPIXELS) as f32;
        let shade = fill_texture.at(x, y);
        for (channel, fill) in pixel.iter_mut().zip(fill) {
            *channel += cover * (fill + shade - *channel);
        }
    }
    let noise = rng.range(hard::NOISE[0], hard::NOISE[1]);
    for (pixel, out) in canvas.iter().zip(image.chunks_exact_mut(3)) {
        for (channel, code) in pixel.iter().zip(out) {
            // The sum of two uniforms on ±1/2 has the variance 1/6.
            let bump = (rng.unit() + rng.unit() - 1.0) * 6.0f32.sqrt();
            *code = (channel + noise * bump).round().clamp(0.0, 255.0) as u8;
        }
    }
}

/// A short thin line of random colour somewhere.
fn stroke(rng: &mut ChaCha8Rng, canvas: &mut [[f32; 3]; SIDE * SIDE]) {
    let colour = colour(rng);
    let length = rng.range(hard::CLUTTER_LENGTH[0], hard::CLUTTER_LENGTH[1]);
    let direction = rng.range(0.0, std::f32::consts::TAU);
    let (x, y) = (rng.range(0.0, SIDE as f32), rng.range(0.0, SIDE as f32));
    let steps = (2.0 * length) as usize;
    for step in 0..=steps {
        let along = step as f32 / 2.0;
        let at = |start: f32, slope: f32| (start + along * slope) as isize;
        let (column, row) = (at(x, direction.cos()), at(y, direction.sin()));
        let range = 0..SIDE as isize;
        if range.contains(&column) && range.contains(&row) {
            canvas[row as usize * SIDE + column as usize] = colour;
        }
    }
}

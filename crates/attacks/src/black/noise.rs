//! Random noise in the ball: the control that every real attack must beat.

use kernels::Real;

use crate::chunk::Chunk;
use crate::error::AttackError;
use crate::geometry::project;
use crate::random::{Draw, in_ball, stream};
use crate::spec::Noise;

pub(crate) fn attack<T: Real>(noise: &Noise, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
    c.activate();
    for draw in 0..noise.draws {
        if c.active.is_empty() {
            break;
        }
        for (j, &s) in c.active.iter().enumerate() {
            let (row, x) = (c.at(j), &c.x[c.at(s)]);
            let point = &mut c.probe[row];
            in_ball(&mut stream(c.seed, Draw::Noise, c.ids[s], draw as u64), c.norm, c.eps, point);
            for (p, &x) in point.iter_mut().zip(x) {
                *p += x;
            }
            project(c.norm, point, x, c.eps, c.lo, c.hi);
        }
        c.query(noise.loss)?;
        for j in 0..c.active.len() {
            c.offer(j);
        }
        c.retain_survivors();
        c.tick(draw + 1, noise.draws);
    }
    Ok(())
}

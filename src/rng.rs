//! Random numbers that are the same on every machine: a ChaCha8 stream for batches, samples and stories.
//!
//! libtorch's own generator is left to dropout and initialisation, so drawing a sample in the middle
//! of a run does not change the run.

use std::ops::{Deref, DerefMut};

use crate::finite;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// A stream of random numbers, fixed by its seed: that of the fables, with what lessons draw from it.
#[derive(Clone, Debug)]
pub struct Rng {
    seed: u64,
    stream: fables::Rng,
}

/// Where a stream stands: enough to go on exactly there, in this process or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RngState {
    pub seed: u64,
    /// 32-bit words of the stream used so far, modulo 2⁶⁴: centuries of drawing.
    pub words: u64,
}

impl Deref for Rng {
    type Target = fables::Rng;

    fn deref(&self) -> &fables::Rng {
        &self.stream
    }
}

impl DerefMut for Rng {
    fn deref_mut(&mut self) -> &mut fables::Rng {
        &mut self.stream
    }
}

impl Rng {
    /// The stream of `seed`. Two seeds give streams that have nothing to do with each other.
    pub fn new(seed: u64) -> Rng {
        Rng { seed, stream: fables::Rng::new(seed) }
    }

    /// A number in [0, 1), a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An index into `weights`, drawn with probability proportional to its weight.
    ///
    /// # Panics
    /// If a weight is negative, or if the weights do not add up to something positive and finite. Where one is
    /// NaN, as all are that come from NaN among logits, `lab::run` ends the program with a sentence.
    pub fn pick(&mut self, weights: &[f64]) -> usize {
        if weights.iter().any(|w| w.is_nan()) {
            finite::stop()
        }
        assert!(weights.iter().all(|&w| w >= 0.0), "a weight is negative");
        let total: f64 = weights.iter().sum();
        assert!(
            total > 0.0 && total.is_finite(),
            "the weights add up to {total}: nothing can be drawn"
        );
        let mut left = self.uniform() * total;
        for (index, &weight) in weights.iter().enumerate() {
            if left < weight {
                return index;
            }
            left -= weight;
        }
        // Rounding can carry `left` past the end: the last index that can be drawn at all.
        weights.iter().rposition(|&w| w > 0.0).unwrap_or(0)
    }

    /// Draws one place in each row of `probs` with the probabilities that stand there, as
    /// `torch.multinomial(probs, 1)` does: (B, K) → (B, 1), or (K) → (1), of integers.
    ///
    /// # Panics
    /// As [`Self::pick`].
    pub fn multinomial(&mut self, probs: &Tensor) -> Tensor {
        let rows = probs.to(Device::Cpu).to_kind(Kind::Double);
        let rows = Vec::<Vec<f64>>::try_from(rows.view([-1, rows.size()[rows.dim() - 1]]));
        let rows = rows.expect("one or two dimensions");
        let drawn: Vec<i64> = rows.iter().map(|row| self.pick(row) as i64).collect();
        let mut shape = probs.size();
        *shape.last_mut().expect("one or two dimensions") = 1;
        Tensor::from_slice(&drawn).view(&shape[..]).to(probs.device())
    }

    /// The numbers 0 to n − 1 in an order that is drawn, each as likely as any other.
    pub fn randperm(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i as i64 + 1) as usize);
        }
        order
    }

    /// Where the stream stands now.
    pub fn state(&self) -> RngState {
        RngState { seed: self.seed, words: self.stream.words() }
    }

    /// The stream of [`Rng::state`], going on where it stood.
    pub fn from_state(state: RngState) -> Rng {
        let mut rng = Rng::new(state.seed);
        rng.stream.go_to(state.words);
        rng
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_stream_goes_on_where_it_stood() {
        let mut rng = Rng::new(7);
        for used in 0..40 {
            let mut restored = Rng::from_state(rng.state());
            let (a, b) = (rng.next_u64(), restored.next_u64());
            assert_eq!(a, b, "after {used} draws");
        }
    }

    #[test]
    fn uniform_stays_in_its_interval_and_pick_follows_the_weights() {
        let mut rng = Rng::new(11);
        let mut counts = [0; 4];
        for _ in 0..40_000 {
            let u = rng.uniform();
            assert!((0.0..1.0).contains(&u));
            counts[rng.pick(&[1.0, 0.0, 2.0, 1.0])] += 1;
        }
        assert_eq!(counts[1], 0);
        // Standard deviation of the middle one: 100.
        assert!((19_500..20_500).contains(&counts[2]), "{counts:?}");
        assert!((9_500..10_500).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn multinomial_follows_the_probabilities_in_each_row() {
        let n = 20_000;
        let probs = Tensor::from_slice2(&[[0.25f32, 0.0, 0.75], [0.5, 0.5, 0.0]]);
        let mut rng = Rng::new(13);
        let mut counts = [[0.0; 3]; 2];
        for _ in 0..n {
            let drawn = rng.multinomial(&probs);
            assert_eq!((drawn.size(), drawn.kind()), (vec![2, 1], Kind::Int64));
            for (row, counts) in counts.iter_mut().enumerate() {
                counts[drawn.int64_value(&[row as i64, 0]) as usize] += 1.0;
            }
        }
        // Five standard deviations of a share of 20,000 draws: 0.018.
        assert!((counts[0][2] / n as f64 - 0.75).abs() < 0.018, "{counts:?}");
        assert!((counts[1][0] / n as f64 - 0.5).abs() < 0.018, "{counts:?}");
        assert_eq!((counts[0][1], counts[1][2]), (0.0, 0.0));
        assert_eq!(
            rng.multinomial(&Tensor::from_slice(&[0.0f32, 1.0])),
            Tensor::from_slice(&[1i64])
        );
    }
}

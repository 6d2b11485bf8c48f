//! Random numbers that are the same on every machine: a ChaCha8 stream.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// A stream of random numbers, fixed by its seed.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The stream of `seed`. Two seeds give streams that have nothing to do with each other.
    pub fn new(seed: u64) -> Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Rng(ChaCha8Rng::from_seed(key))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A whole number in `0..n`, each exactly as likely as the others. Signed, as libtorch's sizes are.
    ///
    /// # Panics
    /// If `n` is not positive.
    pub fn below(&mut self, n: i64) -> i64 {
        assert!(n > 0, "there is no whole number below {n} to draw");
        let n = n as u64;
        // 2⁶⁴ is rarely a multiple of n: draws beyond its last multiple would favour small numbers.
        let surplus = (u64::MAX % n + 1) % n;
        loop {
            let draw = self.next_u64();
            if draw <= u64::MAX - surplus {
                return (draw % n) as i64;
            }
        }
    }

    /// How many 32-bit words of the stream are used so far, modulo 2⁶⁴: centuries of drawing.
    pub fn words(&self) -> u64 {
        self.0.get_word_pos() as u64
    }

    /// Goes on where a stream of the same seed stood when it had used so many 32-bit words.
    pub fn go_to(&mut self, words: u64) {
        self.0.set_word_pos(words.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_same_on_every_machine() {
        let mut rng = Rng::new(1337);
        let drawn: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        // Checked against a ChaCha8 written from its definition: key 1337 in little-endian, block 0.
        let expected =
            [16_214_201_154_505_242_724, 5_511_658_002_443_516_758, 8_890_002_691_529_287_150];
        assert_eq!(drawn, expected);
    }

    #[test]
    fn a_stream_goes_on_where_another_stood() {
        let mut rng = Rng::new(7);
        for used in 0..40 {
            let mut other = Rng::new(7);
            other.go_to(rng.words());
            assert_eq!(rng.next_u64(), other.next_u64(), "after {used} draws");
        }
    }

    #[test]
    fn below_is_even() {
        let mut rng = Rng::new(3);
        let mut counts = [0.0; 7];
        for _ in 0..70_000 {
            counts[rng.below(7) as usize] += 1.0;
        }
        let chi2: f64 = counts.iter().map(|c: &f64| (c - 10_000.0).powi(2) / 10_000.0).sum();
        // 6 degrees of freedom: chi² has mean 6; above 35 once in 200,000 seeds.
        assert!(chi2 < 35.0, "chi² {chi2}");
    }

    #[test]
    fn below_rejects_the_surplus() {
        // With n = 3·2⁶¹ a modulo without rejection would draw the lowest third 11,250 times.
        let (mut rng, n) = (Rng::new(5), 3 << 61);
        let low = (0..30_000).filter(|_| rng.below(n) < 1 << 61).count();
        // 10,000 expected, standard deviation 82.
        assert!((9_500..10_500).contains(&low), "{low}");
    }
}

//! A small seeded random generator, so that a run can be told by one number.
//!
//! SplitMix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.

/// The generator. Equal seeds give equal numbers, on every platform and for ever.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator for this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// An independent generator for a part of the work, such as one writer.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self::new(self.next())
    }

    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "the stream never ends, so it has no Option")]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `low` through `high`.
    ///
    /// # Panics
    ///
    /// `low` is above `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "no number is from {low} through {high}");
        match (high - low).checked_add(1) {
            // The bias of the remainder is below 2^-32 for the small ranges of a workload.
            Some(span) => low + self.next() % span,
            None => self.next(),
        }
    }

    /// An index into something of length `len`.
    ///
    /// # Panics
    ///
    /// `len` is 0.
    pub fn index(&mut self, len: usize) -> usize {
        assert!(len > 0, "nothing to choose from");
        usize::try_from(self.between(0, len as u64 - 1)).unwrap_or(0)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.between(0, 99) < percent
    }

    /// Lower-case letters and digits, `len` of them. Too random to be compressed.
    pub fn text(&mut self, len: usize) -> String {
        const LETTERS: [char; 32] = [
            'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q',
            'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', '2', '3', '4', '5', '6', '7',
        ];
        let mut text = String::with_capacity(len);
        let (mut bits, mut left) = (0, 0);
        for _ in 0..len {
            if left == 0 {
                (bits, left) = (self.next(), 12);
            }
            text.push(LETTERS[usize::try_from(bits % 32).unwrap_or(0)]);
            bits /= 32;
            left -= 1;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn it_is_splitmix64() {
        // The first outputs for seed 1234567 of the reference implementation by Sebastiano Vigna.
        let mut random = Random::new(1_234_567);
        let first = [random.next(), random.next(), random.next()];
        assert_eq!(first, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn numbers_stay_in_their_range() {
        let mut random = Random::new(7);
        for _ in 0..1000 {
            assert!((3..=5).contains(&random.between(3, 5)));
            assert!(random.index(4) < 4);
        }
        assert_eq!(random.between(9, 9), 9);
        assert_eq!(random.text(30).len(), 30);
    }
}

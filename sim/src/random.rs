//! Random numbers from a seed: everything that happens in a world follows from one number.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, each as likely as any other.
    pub const fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `count`, exclusive.
    ///
    /// # Panics
    ///
    /// `count` is 0.
    pub fn below(&mut self, count: usize) -> usize {
        assert!(0 < count, "nothing to choose from");
        let number = self.word() % u64::try_from(count).expect("a usize fits 64 bits");
        usize::try_from(number).expect("less than a usize")
    }

    /// A number from `low` to `high`, both inclusive.
    pub fn within(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True that many times out of a hundred.
    pub fn chance(&mut self, percent: u8) -> bool {
        self.below(100) < usize::from(percent)
    }

    /// One of them.
    ///
    /// # Panics
    ///
    /// There are none.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

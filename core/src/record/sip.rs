//! SipHash-2-4 with 64 and with 128 bits, after Aumasson and Bernstein, "SipHash: a fast short-input PRF".
//!
//! Under a secret key it is a pseudo-random function: who lacks the key learns nothing from its values.
//! Under a key that everybody knows it is a good checksum.

/// A key of 128 bits.
#[derive(Clone, Copy)]
pub(super) struct Sip {
    low: u64,
    high: u64,
}

/// A key that everybody knows.
pub(super) const CHECKSUM: Sip = Sip { low: 0, high: 0 };

#[derive(Clone, Copy)]
struct State(u64, u64, u64, u64);

impl Sip {
    pub(super) const fn new(key: [u8; 16]) -> Self {
        let number = u128::from_le_bytes(key);
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = number.to_le_bytes();
        Self {
            low: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            high: u64::from_le_bytes([i, j, k, l, m, n, o, p]),
        }
    }

    /// 64 bits of two words.
    pub(super) fn of_words(self, words: [u64; 2]) -> u64 {
        let mut state = self.begin();
        for word in words {
            state.word(word);
        }
        // The last word says how many bytes there were: 16.
        state.word(16 << 56);
        state.end(0xFF)
    }

    /// 64 bits of some bytes.
    pub(super) fn of_bytes(self, bytes: &[u8]) -> u64 {
        let mut state = self.begin();
        state.bytes(bytes);
        state.end(0xFF)
    }

    /// 128 bits of some bytes.
    pub(super) fn wide_of_bytes(self, bytes: &[u8]) -> [u8; 16] {
        let mut state = self.begin();
        state.1 ^= 0xEE;
        state.bytes(bytes);
        let first = state.end(0xEE);
        state.1 ^= 0xDD;
        let second = state.end(0);
        (u128::from(first) | (u128::from(second) << 64)).to_le_bytes()
    }

    const fn begin(self) -> State {
        let Self { low, high } = self;
        State(
            low ^ 0x736F_6D65_7073_6575,
            high ^ 0x646F_7261_6E64_6F6D,
            low ^ 0x6C79_6765_6E65_7261,
            high ^ 0x7465_6462_7974_6573,
        )
    }
}

impl State {
    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0_u8; 8];
        for (slot, byte) in last.iter_mut().zip(rest) {
            *slot = *byte;
        }
        // Only the lowest eight bits of the length count.
        let [len, ..] = bytes.len().to_le_bytes();
        let [.., top] = &mut last;
        *top = len;
        self.word(u64::from_le_bytes(last));
    }

    fn word(&mut self, word: u64) {
        self.3 ^= word;
        self.round();
        self.round();
        self.0 ^= word;
    }

    /// Four rounds; may be called again for more bits, with nothing to mark the end.
    fn end(&mut self, mark: u64) -> u64 {
        self.2 ^= mark;
        for _ in 0..4 {
            self.round();
        }
        self.0 ^ self.1 ^ self.2 ^ self.3
    }

    const fn round(&mut self) {
        let Self(a, b, c, d) = self;
        *a = a.wrapping_add(*b);
        *b = b.rotate_left(13) ^ *a;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*d);
        *d = d.rotate_left(16) ^ *c;
        *a = a.wrapping_add(*d);
        *d = d.rotate_left(21) ^ *a;
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use core::hash::Hasher as _;
    use std::vec::Vec;

    use super::Sip;

    const KEY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    #[test]
    #[expect(deprecated, reason = "the one in the standard library is SipHash-2-4, too")]
    fn values_are_those_of_the_standard_library() {
        let message: Vec<u8> = (0..100).collect();
        for len in 0..message.len() {
            let mut hasher = core::hash::SipHasher::new_with_keys(
                u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7]),
                u64::from_le_bytes([8, 9, 10, 11, 12, 13, 14, 15]),
            );
            hasher.write(&message[..len]);
            assert_eq!(Sip::new(KEY).of_bytes(&message[..len]), hasher.finish(), "{len} bytes");
        }
        let words = [7_u64, u64::MAX - 1];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(Sip::new(KEY).of_words(words), Sip::new(KEY).of_bytes(&bytes));
    }

    #[test]
    fn wide_values_are_those_of_the_authors() {
        // vectors.h of the authors' implementation, the first two of 128 bits.
        let none = [
            0xA3, 0x81, 0x7F, 0x04, 0xBA, 0x25, 0xA8, 0xE6, 0x6D, 0xF6, 0x72, 0x14, 0xC7, 0x55,
            0x02, 0x93,
        ];
        let one = [
            0xDA, 0x87, 0xC1, 0xD8, 0x6B, 0x99, 0xAF, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9B, 0x22,
            0xFC, 0x45,
        ];
        assert_eq!(Sip::new(KEY).wide_of_bytes(b""), none);
        assert_eq!(Sip::new(KEY).wide_of_bytes(&[0]), one);
    }
}

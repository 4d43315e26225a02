//! Inputs of the corpora, changed at random, with the compiler that everybody has. The fuzz targets find more, but
//! those that need more than core take many minutes to build.
//!
//! `MUTATE_TARGETS=jwt,packed MUTATE_SECONDS=30` is for these checks alone, and so long for each.
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use replicator_fuzz::{Target, targets};

/// Changed inputs of each check, unless a time is given.
const INPUTS: u64 = 200;

/// Larger ones take too long for many of them, in bytes.
const INPUT_BYTES_MAX: usize = 4 << 10;

/// Numbers that follow from the one before (Marsaglia, "Xorshift RNGs").
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).expect("64 bits") % limit.max(1)
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a corpus")
        .map(|entry| entry.expect("a file").path())
        .collect();
    paths.sort();
    let inputs = paths.iter().map(|path| fs::read(path).expect("a file"));
    inputs.filter(|input| input.len() <= INPUT_BYTES_MAX).collect()
}

/// One input of the corpus, changed in one to four places.
fn changed(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len().max(1));
        match random.below(6) {
            0 => input.truncate(at),
            1 => {
                input.insert(at.min(input.len()), u8::try_from(random.below(256)).expect("a byte"));
            }
            2 if !input.is_empty() => drop(input.remove(at)),
            3 => {
                // The end of another one.
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                input.truncate(at);
                input.extend_from_slice(other.get(from..).unwrap_or_default());
            }
            _ if !input.is_empty() => input[at] ^= 1 << random.below(8),
            _ => (),
        }
    }
    input
}

#[test]
fn changed_inputs_are_taken_or_refused() {
    let only = std::env::var("MUTATE_TARGETS").ok();
    let only: Option<Vec<&str>> = only.as_ref().map(|names| names.split(',').collect());
    let seconds = std::env::var("MUTATE_SECONDS").ok().map(|text| text.parse::<u64>().unwrap());
    let is_wanted =
        |target: &Target| only.as_ref().is_none_or(|names| names.contains(&target.name));
    let wanted: Vec<Target> = targets().into_iter().filter(is_wanted).collect();
    assert!(only.is_none_or(|names| names.len() == wanted.len()), "there is no such check");
    for target in wanted {
        let corpus = corpus(target.name);
        // Other ones each time where there is time for them.
        let seed = seconds.map_or(1, |_| u64::from(std::process::id()) + 1);
        let (mut random, began, mut ran) = (Random(seed), Instant::now(), 0);
        let limit = seconds.map(Duration::from_secs);
        while limit.map_or(ran < INPUTS, |limit| began.elapsed() < limit) {
            let input = changed(&corpus, &mut random);
            let checked = std::panic::catch_unwind(|| (target.check)(&input));
            assert!(checked.is_ok(), "{} breaks with {input:02x?}", target.name);
            ran += 1;
        }
        assert!(INPUTS <= ran, "only {ran} inputs of {}", target.name);
    }
}

//! Prompts of common words that differ from each other.

use std::time::{SystemTime, UNIX_EPOCH};

/// Words that most vocabularies have as one token with the blank before them.
const WORDS: [&str; 128] = [
    "the", "of", "and", "to", "in", "is", "for", "on", "with", "as", "by", "at", "from", "this",
    "that", "are", "was", "be", "have", "not", "but", "all", "one", "new", "more", "time",
    "people", "year", "work", "world", "life", "day", "part", "number", "water", "long", "little",
    "good", "great", "small", "large", "place", "house", "school", "book", "story", "music",
    "light", "night", "morning", "city", "country", "river", "mountain", "sea", "sun", "moon",
    "star", "fire", "wind", "rain", "snow", "summer", "winter", "spring", "green", "blue", "red",
    "white", "black", "old", "young", "man", "woman", "child", "family", "friend", "name", "word",
    "letter", "paper", "table", "door", "window", "road", "car", "ship", "train", "horse", "dog",
    "cat", "bird", "fish", "tree", "flower", "grass", "stone", "wood", "iron", "gold", "silver",
    "bread", "milk", "sugar", "salt", "king", "war", "peace", "law", "state", "power", "money",
    "trade", "market", "price", "plan", "idea", "question", "answer", "game", "team", "player",
    "field", "line", "point", "side", "end", "start",
];

/// A source of prompts.
#[derive(Debug)]
pub(super) struct Prompts {
    /// Words of each prompt.
    pub(super) words: usize,
    /// Words with which all prompts begin alike.
    pub(super) shared: usize,
    seed: u64,
    state: u64,
}

/// A seed that no earlier run had.
pub(super) fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // Few enough digits to be typed again.
    now.map_or(0, |since| since.as_millis() as u64 % 100_000_000)
}

impl Prompts {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            words: 1,
            shared: 0,
            seed,
            state: seed.wrapping_add(1 << 63),
        }
    }

    /// The next prompt.
    pub(super) fn next(&mut self) -> String {
        let mut beginning = self.seed;
        let mut prompt = String::new();
        for at in 0..self.words {
            let state = if at < self.shared {
                &mut beginning
            } else {
                &mut self.state
            };
            if at > 0 {
                prompt.push(' ');
            }
            prompt.push_str(WORDS[(random(state) % WORDS.len() as u64) as usize]);
        }
        prompt
    }
}

/// The splitmix64 generator.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(seed: u64, shared: usize) -> [String; 3] {
        let mut prompts = Prompts::new(seed);
        (prompts.words, prompts.shared) = (20, shared);
        std::array::from_fn(|_| prompts.next())
    }

    fn same_words(a: &str, b: &str) -> usize {
        let pairs = a.split(' ').zip(b.split(' '));
        pairs.take_while(|(a, b)| a == b).count()
    }

    #[test]
    fn prompts_differ_from_the_beginning() {
        let [a, b, c] = prompts(7, 0);
        assert!(same_words(&a, &b) < 3 && same_words(&b, &c) < 3);
        assert_eq!(a.split(' ').count(), 20);
    }

    #[test]
    fn a_shared_prefix_is_shared_and_the_rest_differs() {
        let [a, b, c] = prompts(7, 12);
        for pair in [[&a, &b], [&b, &c]] {
            let same = same_words(pair[0], pair[1]);
            assert!((12..15).contains(&same), "{same}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_prompts() {
        assert_eq!(prompts(7, 4), prompts(7, 4));
        assert_ne!(prompts(7, 4), prompts(8, 4));
    }
}

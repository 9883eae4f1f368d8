//! Finds stop strings in text that arrives in pieces, and holds back what may become one.

use crate::Error;

/// Scans generated text for stop strings.
///
/// Text goes in as pieces of any size and comes out as soon as it is certain that it is not part of a stop string.
/// The text ends before the stop string that is *complete first*; if two are complete at the same character, before
/// the longer one. So the outcome does not depend on how the text was cut into pieces.
///
/// Matching is on bytes. Since pieces and stop strings are both UTF-8, every border between what is released and what
/// is held back is a character border.
///
/// ```
/// use fireside_tokenizer::StopStrings;
///
/// let mut stop = StopStrings::new(["\nUser:"])?;
/// assert_eq!(stop.push("Hello.\nUs").text, "Hello.");
/// let end = stop.push("er: and more");
/// assert_eq!(end.text, "");
/// assert_eq!(end.matched.unwrap().index, 0);
/// # Ok::<(), fireside_tokenizer::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct StopStrings {
    patterns: Vec<Pattern>,
    /// Text that may be the beginning of a stop string.
    held: String,
    matched: Option<StopMatch>,
}

/// Which stop string ended the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopMatch {
    /// Its position in the list that was given to [`StopStrings::new`].
    pub index: usize,
    /// How many bytes of the last piece that was pushed come after it; they are not part of the output.
    pub dropped: usize,
}

/// What one push gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopOutput {
    /// Text that is certain to be output.
    pub text: String,
    /// Set from the piece on that completed a stop string; there is no output after it.
    pub matched: Option<StopMatch>,
}

/// One stop string with its Knuth-Morris-Pratt table.
#[derive(Debug, Clone)]
struct Pattern {
    bytes: Vec<u8>,
    /// For each length, that of the longest proper prefix that is also a suffix.
    borders: Vec<usize>,
    /// How many bytes of the pattern the text so far ends with.
    state: usize,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes().to_vec();
        let mut borders = vec![0; bytes.len() + 1];
        let mut length = 0;
        for at in 1..bytes.len() {
            while length > 0 && bytes[at] != bytes[length] {
                length = borders[length];
            }
            if bytes[at] == bytes[length] {
                length += 1;
            }
            borders[at + 1] = length;
        }
        Self {
            bytes,
            borders,
            state: 0,
        }
    }

    /// Takes a byte of text; true if the text now ends with the pattern.
    fn advance(&mut self, byte: u8) -> bool {
        while self.state > 0 && self.bytes[self.state] != byte {
            self.state = self.borders[self.state];
        }
        if self.bytes[self.state] == byte {
            self.state += 1;
        }
        if self.state < self.bytes.len() {
            return false;
        }
        self.state = self.borders[self.state];
        true
    }
}

impl StopStrings {
    /// A scanner for these strings; with none it passes everything on.
    ///
    /// # Errors
    ///
    /// If one of them is empty.
    pub fn new<S: AsRef<str>>(stops: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let mut patterns = Vec::new();
        for (index, stop) in stops.into_iter().enumerate() {
            if stop.as_ref().is_empty() {
                return Err(Error::EmptyStopString { index });
            }
            patterns.push(Pattern::new(stop.as_ref()));
        }
        Ok(Self {
            patterns,
            held: String::new(),
            matched: None,
        })
    }

    /// Takes the next piece of text and gives what can be output.
    pub fn push(&mut self, piece: &str) -> StopOutput {
        if self.matched.is_some() {
            return StopOutput {
                text: String::new(),
                matched: self.matched,
            };
        }
        let mut text = std::mem::take(&mut self.held);
        let scanned = text.len();
        text.push_str(piece);
        for (at, byte) in piece.bytes().enumerate() {
            let mut longest: Option<(usize, usize)> = None;
            for (index, pattern) in self.patterns.iter_mut().enumerate() {
                if pattern.advance(byte)
                    && longest.is_none_or(|(length, _)| pattern.bytes.len() > length)
                {
                    longest = Some((pattern.bytes.len(), index));
                }
            }
            if let Some((length, index)) = longest {
                let end = scanned + at + 1;
                text.truncate(end.saturating_sub(length));
                self.matched = Some(StopMatch {
                    index,
                    dropped: piece.len() - at - 1,
                });
                return StopOutput {
                    text,
                    matched: self.matched,
                };
            }
        }
        let hold = self
            .patterns
            .iter()
            .map(|pattern| pattern.state)
            .max()
            .unwrap_or(0);
        self.held = text.split_off(text.len().saturating_sub(hold));
        StopOutput {
            text,
            matched: None,
        }
    }

    /// Ends the text and gives what was held back; empty after a match.
    pub fn finish(&mut self) -> String {
        for pattern in &mut self.patterns {
            pattern.state = 0;
        }
        std::mem::take(&mut self.held)
    }

    /// The stop string that ended the text, if one did.
    pub fn matched(&self) -> Option<StopMatch> {
        self.matched
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything that comes out for pieces, and the match.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut scanner = StopStrings::new(stops).unwrap();
        let mut out = String::new();
        for piece in pieces {
            out += &scanner.push(piece).text;
        }
        out += &scanner.finish();
        (out, scanner.matched().map(|found| found.index))
    }

    /// The same by definition: the earliest end, then the longest.
    fn naive(stops: &[&str], text: &str) -> (String, Option<usize>) {
        for end in 1..=text.len() {
            let ending = stops
                .iter()
                .enumerate()
                .filter(|(_, stop)| text.as_bytes()[..end].ends_with(stop.as_bytes()));
            if let Some((index, stop)) = ending.rev().max_by_key(|(_, stop)| stop.len()) {
                return (text[..end - stop.len()].to_owned(), Some(index));
            }
        }
        (text.to_owned(), None)
    }

    #[test]
    fn a_stop_string_across_pieces_is_found_and_never_shown() {
        let mut scanner = StopStrings::new(["<end>"]).unwrap();
        assert_eq!(scanner.push("a <").text, "a ");
        assert_eq!(scanner.push("en").text, "");
        let output = scanner.push("d> rest");
        assert_eq!(output.text, "");
        assert_eq!(
            output.matched,
            Some(StopMatch {
                index: 0,
                dropped: 5
            })
        );
        assert_eq!(scanner.push("more").text, "");
        assert_eq!(scanner.finish(), "");
    }

    #[test]
    fn what_was_held_back_comes_out_when_it_is_no_stop_string() {
        let mut scanner = StopStrings::new(["<end>", "日本"]).unwrap();
        assert_eq!(scanner.push("x<en").text, "x");
        assert_eq!(scanner.push("ough").text, "<enough");
        assert_eq!(scanner.push("日").text, "");
        assert_eq!(scanner.finish(), "日");
        assert_eq!(scanner.matched(), None);
    }

    #[test]
    fn the_string_that_is_complete_first_wins_and_then_the_longer() {
        assert_eq!(run(&["abcd", "bc"], &["xabcd"]), ("xa".into(), Some(1)));
        assert_eq!(run(&["bc", "abc"], &["xabcd"]), ("x".into(), Some(1)));
        assert_eq!(run(&["aab"], &["aa", "aab"]), ("aa".into(), Some(0)));
    }

    #[test]
    fn an_empty_stop_string_is_refused() {
        assert_eq!(
            StopStrings::new(["a", ""]).unwrap_err(),
            Error::EmptyStopString { index: 1 }
        );
    }

    #[test]
    fn without_stop_strings_everything_passes_at_once() {
        let mut scanner = StopStrings::new([""; 0]).unwrap();
        assert_eq!(scanner.push("abc").text, "abc");
    }

    proptest! {
        #[test]
        fn any_cutting_gives_what_the_naive_search_gives(
            stops in prop::collection::vec("[abé日]{1,4}", 0..4),
            pieces in prop::collection::vec("[abé日🔥]{0,5}", 0..10),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(run(&stops, &pieces), naive(&stops, &pieces.concat()));
        }

        #[test]
        fn nothing_is_held_back_that_cannot_become_a_stop_string(
            stop in "[ab]{1,4}",
            text in "[abc]{0,20}",
        ) {
            let mut scanner = StopStrings::new([&stop]).unwrap();
            let output = scanner.push(&text);
            if output.matched.is_none() {
                let held = scanner.finish();
                prop_assert!(stop.starts_with(&held) && held.len() < stop.len());
                prop_assert_eq!(output.text + &held, text);
            }
        }
    }
}

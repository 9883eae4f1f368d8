//! Server-sent events, read line by line.

use std::io::{self, BufRead, Read};

/// Bytes of a line above which a stream is not read on.
const LINE_BYTES: u64 = 4 << 20;

/// The data of a stream's events.
pub(super) struct Events<R> {
    reader: R,
    line: Vec<u8>,
}

impl<R: BufRead> Events<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            line: Vec::new(),
        }
    }

    /// The data of the next event that has any; none at the end. An event that the end cuts off is
    /// given as it is.
    pub(super) fn next(&mut self) -> io::Result<Option<String>> {
        let mut data: Option<String> = None;
        loop {
            self.line.clear();
            let mut limited = (&mut self.reader).take(LINE_BYTES);
            let count = limited.read_until(b'\n', &mut self.line)?;
            if count as u64 == LINE_BYTES {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a line has more than {LINE_BYTES} bytes"),
                ));
            }
            let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if count == 0 || line.is_empty() {
                if count == 0 || data.is_some() {
                    return Ok(data);
                }
                continue;
            }
            // Comments, names, ids and times to wait are passed over.
            let Some(value) = line.strip_prefix(b"data:") else {
                continue;
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            let value = String::from_utf8_lossy(value);
            match &mut data {
                None => data = Some(value.into_owned()),
                Some(data) => {
                    data.push('\n');
                    data.push_str(&value);
                    if data.len() as u64 > LINE_BYTES {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            format!("an event has more than {LINE_BYTES} bytes"),
                        ));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &[u8]) -> Vec<String> {
        let mut events = Events::new(text);
        std::iter::from_fn(|| events.next().unwrap()).collect()
    }

    #[test]
    fn events_are_told_apart_by_blank_lines() {
        assert_eq!(events(b"data: a\n\ndata: b\n\n"), ["a", "b"]);
        assert_eq!(events(b"data: a\r\n\r\ndata: b\r\n\r\n"), ["a", "b"]);
        assert_eq!(events(b"data:a\n\n\n\ndata:  b\n\n"), ["a", " b"]);
        assert_eq!(events(b""), [""; 0]);
    }

    #[test]
    fn lines_of_one_event_are_joined() {
        assert_eq!(events(b"data: a\ndata: b\n\n"), ["a\nb"]);
    }

    #[test]
    fn comments_and_other_fields_are_passed_over() {
        assert_eq!(
            events(b": alive\n\nevent: x\nid: 1\nretry: 5\ndata: a\n\n"),
            ["a"]
        );
    }

    #[test]
    fn a_cut_event_is_given_as_it_is() {
        assert_eq!(events(b"data: a\n\ndata: b"), ["a", "b"]);
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let long = vec![b'x'; LINE_BYTES as usize + 1];
        let error = Events::new(&long[..]).next().unwrap_err();
        assert_eq!(error.to_string(), "a line has more than 4194304 bytes");
    }

    #[test]
    fn broken_utf8_does_not_end_a_stream() {
        assert_eq!(events(b"data: \xff\n\n"), ["\u{fffd}"]);
    }
}

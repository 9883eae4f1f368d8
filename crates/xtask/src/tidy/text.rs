//! Rules on any text that people write here: size, ends of lines, words, module headers.

/// Lines above which a source file must be split.
const LINES: usize = 800;

/// What may not stand in a file, and what to do about it.
///
/// They are put together from halves, so that this file keeps its own rules.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "do it, or open an issue"),
    (concat!("FIX", "ME"), "fix it, or open an issue"),
    (concat!("XX", "X"), "say what is meant"),
    (concat!("to", "do!("), "write it"),
    (
        concat!("unimple", "mented!("),
        "write it, or return an error",
    ),
    (concat!("db", "g!("), "remove it"),
    (
        concat!("#[igno", "re"),
        "a test that cannot run records a skip with its reason",
    ),
    (concat!("#[allo", "w("), "use #[expect(…, reason = \"…\")]"),
    (
        concat!("#![allo", "w("),
        "use #![expect(…, reason = \"…\")]",
    ),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/wo", "rk/"), "a path of one machine"),
];

/// The kinds of files that hold source code.
const SOURCE: &[&str] = &[
    "rs", "wgsl", "py", "sh", "js", "mjs", "ts", "tsx", "css", "html",
];
/// Other kinds that people write.
const PROSE: &[&str] = &["md", "toml", "yml", "yaml"];

fn extension(name: &str) -> &str {
    name.rsplit('/')
        .next()
        .and_then(|file| file.rsplit_once('.'))
        .map_or("", |(_, end)| end)
}

/// True for files that these rules are for: not for data and lock files.
pub(super) fn is_ours(name: &str) -> bool {
    SOURCE.contains(&extension(name)) || PROSE.contains(&extension(name))
}

/// Findings as ` what` or `line: what`.
pub(super) fn check(name: &str, content: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let count = content.lines().count();
    if SOURCE.contains(&extension(name)) && count > LINES {
        findings.push(format!(" {count} lines, at most {LINES}: split it"));
    }
    if !content.is_empty() && !content.ends_with('\n') {
        findings.push(" no newline at the end".to_owned());
    }
    if content.contains('\r') {
        findings.push(" carriage returns: lines end with a newline only".to_owned());
    }
    if is_module(name) && !content.starts_with("//! ") {
        findings.push("1: a module opens with one sentence (`//! …`) that says its job".to_owned());
    }
    for (at, line) in content.lines().enumerate() {
        let at = at + 1;
        if line.trim_end_matches('\r').ends_with([' ', '\t']) {
            findings.push(format!("{at}: blanks at the end of the line"));
        }
        for (word, instead) in FORBIDDEN {
            if contains_word(line, word) {
                findings.push(format!("{at}: `{word}`: {instead}"));
            }
        }
    }
    findings
}

/// Rust modules of the product; test files may go without a header.
fn is_module(name: &str) -> bool {
    extension(name) == "rs" && name.split('/').any(|part| part == "src")
}

/// True where a word does not begin or end inside another one.
fn contains_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let begins = word.starts_with(is_part) && before.is_some_and(is_part);
        let ends = word.ends_with(is_part) && after.is_some_and(is_part);
        !begins && !ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(content: &str) -> Vec<String> {
        check("crates/a/src/lib.rs", content)
    }

    #[test]
    fn a_clean_module_has_no_finding() {
        assert!(findings("//! Reads things.\n\nfn main() {}\n").is_empty());
    }

    #[test]
    fn forbidden_words_are_found_with_their_line() {
        for (word, _) in FORBIDDEN {
            let found = findings(&format!("//! A.\n\n// {word}\n"));
            assert_eq!(found.len(), 1, "{word}: {found:?}");
            assert!(found[0].starts_with("3: "), "{found:?}");
        }
    }

    #[test]
    fn words_inside_others_are_not_meant() {
        let inside = format!("//! MAS{}S and {}_LIST.\n", FORBIDDEN[0].0, FORBIDDEN[0].0);
        assert!(findings(&inside).is_empty());
    }

    #[test]
    fn long_files_must_be_split_but_data_may_be_long() {
        let long = format!("//! A.\n{}", "\n".repeat(LINES));
        assert!(
            findings(&long)[0].contains("split"),
            "{:?}",
            findings(&long)
        );
        assert!(check("notes.md", &long).is_empty());
        assert!(!is_ours("tests/fixtures/a.json"));
        assert!(!is_ours("Cargo.lock"));
    }

    #[test]
    fn a_module_without_a_sentence_is_found() {
        assert!(findings("fn main() {}\n")[0].contains("one sentence"));
        assert!(check("crates/a/tests/zoo.rs", "fn main() {}\n").is_empty());
    }

    #[test]
    fn line_ends_are_checked() {
        assert!(findings("//! A.\nlet a;  \n")[0].contains("2: blanks"));
        assert!(findings("//! A.")[0].contains("newline at the end"));
        assert!(findings("//! A.\r\n")[0].contains("carriage"));
    }
}

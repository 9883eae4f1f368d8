//! A line preprocessor for WGSL: `#if FLAG`, `#else`, `#endif`, `#include "file"`, `@binding(auto)`.
//!
//! WGSL has no conditional compilation, and a bind group's numbers depend on which
//! optional buffers a variant has, so bindings are numbered in order of appearance.

use std::collections::BTreeSet;

/// What can be wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// `#else` or `#endif` without `#if`, or an `#if` that never ends.
    Unbalanced {
        /// The template's name.
        file: String,
        /// Line, from 1.
        line: usize,
    },
    /// An `#include` of a file that is not there.
    UnknownInclude {
        /// The template's name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The name asked for.
        name: String,
    },
    /// A directive that is none of the known ones.
    UnknownDirective {
        /// The template's name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The directive as written.
        directive: String,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unbalanced { file, line } => {
                write!(f, "{file}:{line}: unbalanced #if, #else or #endif")
            }
            Self::UnknownInclude { file, line, name } => {
                write!(f, "{file}:{line}: no shader file named {name:?} to include")
            }
            Self::UnknownDirective {
                file,
                line,
                directive,
            } => write!(
                f,
                "{file}:{line}: unknown directive {directive:?}, known are #if, #else, #endif, #include"
            ),
        }
    }
}

impl std::error::Error for Error {}

/// Expands one template.
///
/// `flag` tells whether a flag is set, `include` gives the text of an included file.
/// A file is included once; later includes of it are empty.
///
/// # Errors
///
/// See [`Error`].
pub fn preprocess(
    file: &str,
    template: &str,
    flag: &dyn Fn(&str) -> bool,
    include: &dyn Fn(&str) -> Option<&'static str>,
) -> Result<String, Error> {
    let mut expander = Expander {
        flag,
        include,
        included: BTreeSet::new(),
        bindings: 0,
        out: String::with_capacity(template.len() * 2),
    };
    expander.expand(file, template)?;
    Ok(expander.out)
}

struct Expander<'a> {
    flag: &'a dyn Fn(&str) -> bool,
    include: &'a dyn Fn(&str) -> Option<&'static str>,
    included: BTreeSet<String>,
    bindings: u32,
    out: String,
}

impl Expander<'_> {
    fn expand(&mut self, file: &str, template: &str) -> Result<(), Error> {
        // One entry per open #if: whether its current branch is taken.
        let mut open: Vec<bool> = Vec::new();
        let unbalanced = |line| Error::Unbalanced {
            file: file.to_string(),
            line,
        };
        for (index, text) in template.lines().enumerate() {
            let line = index + 1;
            let trimmed = text.trim_start();
            if !trimmed.starts_with('#') {
                if open.iter().all(|taken| *taken) {
                    self.push_line(text);
                }
                continue;
            }
            let (directive, rest) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
            match directive {
                "#if" => open.push((self.flag)(rest.trim())),
                "#else" => {
                    let last = open.last_mut().ok_or_else(|| unbalanced(line))?;
                    *last = !*last;
                }
                "#endif" => {
                    open.pop().ok_or_else(|| unbalanced(line))?;
                }
                "#include" => {
                    let name = rest.trim().trim_matches('"');
                    if open.iter().all(|taken| *taken) && self.included.insert(name.to_string()) {
                        let text =
                            (self.include)(name).ok_or_else(|| Error::UnknownInclude {
                                file: file.to_string(),
                                line,
                                name: name.to_string(),
                            })?;
                        self.expand(name, text)?;
                    }
                }
                _ => {
                    return Err(Error::UnknownDirective {
                        file: file.to_string(),
                        line,
                        directive: directive.to_string(),
                    });
                }
            }
        }
        if open.is_empty() {
            Ok(())
        } else {
            Err(unbalanced(template.lines().count()))
        }
    }

    fn push_line(&mut self, text: &str) {
        if text.trim_start().starts_with("//") {
            return;
        }
        match text.split_once("@binding(auto)") {
            Some((before, after)) => {
                self.out.push_str(before);
                self.out.push_str(&format!("@binding({})", self.bindings));
                self.out.push_str(after);
                self.bindings += 1;
            }
            None => self.out.push_str(text),
        }
        self.out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(template: &str, flags: &[&str]) -> Result<String, Error> {
        preprocess("test", template, &|name| flags.contains(&name), &|name| {
            (name == "a.wgsl").then_some("included\n@binding(auto)")
        })
    }

    #[test]
    fn the_taken_branch_is_kept() {
        let text = "#if A\nyes\n#else\nno\n#endif\nend";
        assert_eq!(run(text, &["A"]).unwrap(), "yes\nend\n");
        assert_eq!(run(text, &[]).unwrap(), "no\nend\n");
    }

    #[test]
    fn a_branch_inside_an_untaken_one_is_untaken() {
        let text = "#if A\n#if B\nx\n#else\ny\n#endif\n#endif";
        assert_eq!(run(text, &["B"]).unwrap(), "");
        assert_eq!(run(text, &["A"]).unwrap(), "y\n");
    }

    #[test]
    fn bindings_are_numbered_in_order_across_includes_and_includes_happen_once() {
        let text = "@binding(auto) x\n#include \"a.wgsl\"\n#include \"a.wgsl\"\n@binding(auto) y";
        assert_eq!(
            run(text, &[]).unwrap(),
            "@binding(0) x\nincluded\n@binding(1)\n@binding(2) y\n"
        );
    }

    #[test]
    fn mistakes_name_file_and_line() {
        assert_eq!(
            run("#if A\nx", &[]).unwrap_err().to_string(),
            "test:2: unbalanced #if, #else or #endif"
        );
        assert_eq!(
            run("x\n#endif", &[]).unwrap_err().to_string(),
            "test:2: unbalanced #if, #else or #endif"
        );
        assert_eq!(
            run("#include \"b.wgsl\"", &[]).unwrap_err().to_string(),
            "test:1: no shader file named \"b.wgsl\" to include"
        );
        assert_eq!(
            run("#define A", &[]).unwrap_err().to_string(),
            "test:1: unknown directive \"#define\", known are #if, #else, #endif, #include"
        );
    }
}

//! Prepares a template's source: transformers' own tags become Jinja's, and what the engine would not survive is refused
//! or guarded.
//!
//! * `{% generation %}` and its end become a scope without variables. The tags mark what the assistant wrote, for
//!   training; the text does not depend on them.
//! * In `{% set x = value %}` the value goes through a check of its depth and size ([`GUARD`]). Only assignments let a
//!   loop grow a value step by step into one that takes for ever to print, or is too deep to walk.
//! * The engine walks an expression by recursion, so one expression has a limit on its length.
//!
//! Lines, and the dashes that trim white space, stay as they are. Comments, strings and raw blocks are left alone.

/// The function that checks an assigned value.
pub(crate) const GUARD: &str = "__assigned";

/// The function that checks a value assigned to a field of a namespace.
pub(crate) const HOLD_GUARD: &str = "__held";

/// The longest template, in bytes. The longest in common use have about 20 KB.
const MAX_SOURCE: usize = 1 << 20;

/// The most words and signs in one tag.
const MAX_TOKENS: usize = 2000;

/// The most `elif` tags, each of which nests in the one before it.
const MAX_ELIFS: usize = 400;

/// Gives the source that the engine compiles, or the line and the reason for which it is refused.
pub(crate) fn rewrite(source: &str) -> Result<String, (usize, String)> {
    if source.len() > MAX_SOURCE {
        return Err((
            1,
            format!(
                "the template has {} bytes; the limit is {MAX_SOURCE}",
                source.len()
            ),
        ));
    }
    let mut out = String::with_capacity(source.len() + source.len() / 8);
    let mut rest = source;
    let mut elifs = 0;
    while let Some(at) = next_tag(rest) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let refuse = |reason| {
            Err((
                1 + source[..source.len() - from.len()].matches('\n').count(),
                reason,
            ))
        };
        let (length, tokens) = match &from[..2] {
            "{#" => (from.find("#}").map_or(from.len(), |end| end + 2), 0),
            "{{" => scan(from, "}}"),
            _ => scan(from, "%}"),
        };
        if tokens > MAX_TOKENS {
            return refuse(format!(
                "an expression has more than {MAX_TOKENS} words and signs"
            ));
        }
        let (tag, after) = from.split_at(length);
        rest = after;
        match name(tag) {
            Some("generation") => out.push_str(&tag.replacen("generation", "with", 1)),
            Some("endgeneration") => out.push_str(&tag.replacen("endgeneration", "endwith", 1)),
            Some("raw") => {
                out.push_str(tag);
                let end = end_of_raw(rest);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            Some("set") => guard(tag, &mut out),
            Some("elif") => {
                elifs += 1;
                if elifs > MAX_ELIFS {
                    return refuse(format!("the template has more than {MAX_ELIFS} elif tags"));
                }
                out.push_str(tag);
            }
            _ => out.push_str(tag),
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the next tag or comment begins.
fn next_tag(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    bytes
        .windows(2)
        .position(|pair| pair[0] == b'{' && matches!(pair[1], b'%' | b'#' | b'{'))
}

/// The first word of a block tag.
fn name(tag: &str) -> Option<&str> {
    let inside = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let inside = inside.trim_start_matches(['-', '+']).trim_start();
    let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let (name, rest) = inside.split_at(end.unwrap_or(inside.len()));
    // `{% generation = …` is not a tag of ours.
    let alone = rest.trim_matches(['-', '+']).trim().is_empty();
    match name {
        "set" | "elif" => Some(name),
        _ => alone.then_some(name),
    }
}

/// Where a tag ends, and how many words and signs it has. Strings count as one each.
fn scan(tag: &str, close: &str) -> (usize, usize) {
    let mut quote = None;
    let mut escaped = false;
    let mut in_word = false;
    let mut tokens = 0;
    for (at, c) in tag.char_indices().skip(2) {
        match quote {
            _ if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if tag[at..].starts_with(close) => return (at + close.len(), tokens),
            None => {
                let word = c.is_alphanumeric() || c == '_';
                if !(c.is_whitespace() || word && in_word) {
                    tokens += 1;
                }
                in_word = word;
                if c == '"' || c == '\'' {
                    quote = Some(c);
                }
            }
        }
    }
    (tag.len(), tokens)
}

/// Writes a `set` tag with its value guarded. A tag that opens a block has no value.
fn guard(tag: &str, out: &mut String) {
    let Some(at) = tag.find('=') else {
        return out.push_str(tag);
    };
    let (target, value) = tag.split_at(at + 1);
    let Some(value) = value.strip_suffix("%}") else {
        return out.push_str(tag);
    };
    let (value, dash) = match value.strip_suffix(['-', '+']) {
        Some(shorter) => (shorter, &value[shorter.len()..]),
        None => (value, ""),
    };
    // A target that is not a name (a filter, a comparison) is an error that the engine words better.
    let names = target
        .trim_start_matches("{%")
        .trim_start_matches(['-', '+'])
        .trim_end_matches('=');
    let plain = names
        .chars()
        .all(|c| c.is_alphanumeric() || c.is_whitespace() || "_.,()".contains(c));
    if !plain || value.trim().is_empty() || value.starts_with('=') {
        return out.push_str(tag);
    }
    out.push_str(target);
    out.push_str(if names.contains('.') {
        HOLD_GUARD
    } else {
        GUARD
    });
    out.push('(');
    // The parentheses make one argument of `a, b`.
    out.push_str(if has_top_level_comma(value) { "(" } else { "" });
    out.push_str(value);
    out.push_str(if has_top_level_comma(value) {
        "))"
    } else {
        ")"
    });
    out.push_str(dash);
    out.push_str("%}");
}

/// Whether a value is a list of values without brackets.
fn has_top_level_comma(value: &str) -> bool {
    let mut depth = 0usize;
    let mut quote = None;
    let mut escaped = false;
    for c in value.chars() {
        match quote {
            _ if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None => match c {
                '"' | '\'' => quote = Some(c),
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => return true,
                _ => {}
            },
        }
    }
    false
}

/// Where the tag that ends a raw block begins.
fn end_of_raw(text: &str) -> usize {
    let mut from = 0;
    while let Some(at) = text[from..].find("{%").map(|at| at + from) {
        if let Some(end) = text[at..].find("%}")
            && name(&text[at..at + end + 2]) == Some("endraw")
        {
            return at;
        }
        from = at + 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn generation_tags_become_scopes_and_keep_their_dashes() {
        assert_eq!(
            rewrite(
                "a{%- generation -%}b{{ c }}{%+ endgeneration %}\n{% generation%}d{%endgeneration%}"
            )
            .unwrap(),
            "a{%- with -%}b{{ c }}{%+ endwith %}\n{% with%}d{%endwith%}"
        );
    }

    #[test]
    fn assigned_values_are_guarded() {
        for (source, rewritten) in [
            ("{%- set a = b + 1 -%}", "{%- set a =__assigned( b + 1 )-%}"),
            ("{% set ns.a = '%}' %}", "{% set ns.a =__held( '%}' )%}"),
            ("{%set a,b=c,d%}", "{%set a,b=__assigned((c,d))%}"),
            ("{% set a = f(x=1) %}", "{% set a =__assigned( f(x=1) )%}"),
            ("{% set a %}", "{% set a %}"),
            ("{% set a | upper %}", "{% set a | upper %}"),
            ("{% set a | f(x=1) %}", "{% set a | f(x=1) %}"),
            ("{% set a == 1 %}", "{% set a == 1 %}"),
            ("{% set a = %}", "{% set a = %}"),
            ("{% set a =", "{% set a ="),
        ] {
            assert_eq!(rewrite(source).unwrap(), rewritten);
        }
    }

    #[test]
    fn what_is_not_a_tag_is_left_alone() {
        for source in [
            "{# {% generation %} #}",
            "{{ '{% generation %}' }}",
            "{{ \"}} {% generation %}\" }}",
            "{{ 'it\\'s {% generation %}' }}",
            "{% raw %}{% generation %}{%- endraw %}",
            "{{ generation }}{% generation = 1 %}",
            "generation {% if generation %}",
            "{% generation",
            "{{",
            "{%",
            "日本{#",
            "{% raw %}{% x",
            "{%%}",
        ] {
            assert_eq!(rewrite(source).unwrap(), source);
        }
    }

    #[test]
    fn expressions_without_measure_are_refused_with_their_line() {
        let long = format!("\n{{{{ {}1 }}}}", "-".repeat(5000));
        let (line, reason) = rewrite(&long).unwrap_err();
        assert_eq!(
            (line, reason.as_str()),
            (2, "an expression has more than 2000 words and signs")
        );
        assert!(rewrite(&format!("{{{{ '{}' }}}}", "-".repeat(5000))).is_ok());
        assert!(rewrite(&format!("{{% if 1 %}}{}", "{% elif 1 %}".repeat(500))).is_err());
        assert!(rewrite(&" ".repeat((1 << 20) + 1)).is_err());
    }
}

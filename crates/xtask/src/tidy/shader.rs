//! Rules on WGSL: a file says what it computes, a kernel also how it lies in memory and runs.

/// What the header of a kernel names.
const KERNEL: [&str; 4] = ["Memory:", "Workgroup:", "Grid:", "Limits:"];

/// Findings as `line: what`.
pub(super) fn check(content: &str) -> Vec<String> {
    let header: Vec<&str> = content
        .lines()
        .map_while(|line| line.strip_prefix("//"))
        .map(str::trim)
        .collect();
    if header.first().is_none_or(|line| line.is_empty()) {
        return vec![
            "1: a shader opens with a sentence (`// …`) that says what it computes".into(),
        ];
    }
    if !content
        .lines()
        .any(|line| line.trim_start().starts_with("@compute"))
    {
        return Vec::new();
    }
    KERNEL
        .into_iter()
        .filter(|part| !header.iter().any(|line| line.contains(part)))
        .map(|part| format!("1: the header of a kernel names `{part}`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_names_all_parts() {
        let kernel =
            "// Sums.\n//\n// Memory: a\n// Workgroup: b\n// Limits: d\n\n@compute\nfn main() {}\n";
        assert_eq!(check(kernel), ["1: the header of a kernel names `Grid:`"]);
        assert!(check(&kernel.replace("// Limits", "// Grid: c\n// Limits")).is_empty());
    }

    #[test]
    fn an_included_file_needs_only_a_sentence() {
        assert!(check("// Sums.\n\nfn sum() {}\n").is_empty());
        assert_eq!(check("fn sum() {}\n").len(), 1);
    }
}

//! The known name that a mistyped one was probably meant to be.

/// The name nearest to `typed`, if it is near enough to be what was meant: one edit in three characters.
pub(super) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (typed.chars().count() / 3).max(1);
    known
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_found_and_far_is_not() {
        let known = ["workers", "worker_class", "bind"];
        assert_eq!(nearest("wokers", known.into_iter()), Some("workers"));
        assert_eq!(nearest("bnid", known.into_iter()), Some("bind"));
        assert_eq!(nearest("database", known.into_iter()), None);
    }
}

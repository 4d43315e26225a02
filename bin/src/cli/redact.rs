//! Keeps passwords out of messages that repeat what the user typed.

/// The text with the passwords of connection strings replaced by three stars: in `user:password@` of
/// a URL, and after `password=`.
pub(crate) fn secrets(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after.find(|c: char| c.is_whitespace()).unwrap_or(after.len());
        let (url, after) = after.split_at(end);
        // A raw `@` or `/` in a password is a mistake that people make, so the last `@` counts.
        match url.rsplit_once('@') {
            Some((login, place)) => {
                let user = login.split(':').next().unwrap_or_default();
                shown.push_str(&format!("{user}:***@{place}"));
            }
            None => shown.push_str(url),
        }
        rest = after;
    }
    shown.push_str(rest);
    passwords(&shown)
}

fn passwords(text: &str) -> String {
    const MARK: &str = "password=";
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at + MARK.len());
        shown.push_str(before);
        shown.push_str("***");
        let end = match after.strip_prefix('\'') {
            // A quoted value ends at the next quote that is not escaped; the line's end is enough.
            Some(_) => after.find('\n'),
            None => after.find(|c: char| c.is_whitespace() || c == '&' || c == '\''),
        };
        rest = after.get(end.unwrap_or(after.len())..).unwrap_or_default();
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::secrets;

    #[test]
    fn passwords_are_starred() {
        for (text, shown) in [
            ("nothing to hide", "nothing to hide"),
            ("'postgres://u:p@h:1/db' found", "'postgres://u:***@h:1/db' found"),
            ("postgres://u:p@x/y@h/db z", "postgres://u:***@h/db z"),
            ("postgres://h/db?sslmode=disable", "postgres://h/db?sslmode=disable"),
            ("host=h password=geheim user=u", "host=h password=*** user=u"),
            ("host=h password='ge heim' user=u\nmore", "host=h password=***\nmore"),
            ("postgres://h/db?user=u&password=p&x=1", "postgres://h/db?user=u&password=***&x=1"),
        ] {
            assert_eq!(secrets(text), shown);
        }
    }
}

//! What stands in the way, and the SQL that clears it.
use std::fmt;

use replicator_core::model::ident::Quoted;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Replication cannot work.
    Error,
    /// Replication works, perhaps not as its operator expects.
    Warning,
}

/// One end of the replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Where changes come from.
    Source,
    /// Where changes go.
    Target,
}

/// SQL for an operator to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// In which database.
    pub side: Side,
    /// One statement per line.
    pub sql: String,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub text: String,
    /// What to run, where SQL helps.
    pub fix: Option<Fix>,
    /// Whether it may go away by itself.
    pub passes: bool,
}

impl Finding {
    /// Something that must be changed first.
    pub(super) fn error(text: impl Into<String>) -> Self {
        Self { severity: Severity::Error, text: text.into(), fix: None, passes: false }
    }

    /// Something to know.
    pub(super) fn warning(text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, text: text.into(), fix: None, passes: false }
    }

    /// Says that it may go away by itself.
    pub(super) fn passing(self) -> Self {
        Self { passes: true, ..self }
    }

    /// Adds the SQL to run on the source.
    pub(super) fn fix_source(self, sql: impl Into<String>) -> Self {
        Self { fix: Some(Fix { side: Side::Source, sql: sql.into() }), ..self }
    }

    /// Adds the SQL to run on the target.
    pub(super) fn fix_target(self, sql: impl Into<String>) -> Self {
        Self { fix: Some(Fix { side: Side::Target, sql: sql.into() }), ..self }
    }
}

/// Everything that was found: errors first, each kind in the order of the checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    // Invariant: sorted by severity.
    list: Vec<Finding>,
}

impl Findings {
    pub(super) fn new(mut list: Vec<Finding>) -> Self {
        // Stable, so a cause stays above what follows from it.
        list.sort_by_key(|finding| finding.severity);
        Self { list }
    }

    /// The findings.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.list.iter()
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether replication cannot work.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Whether all that stands in the way may go away by itself.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.list.iter().all(|finding| finding.severity != Severity::Error || finding.passes)
    }

    fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|finding| finding.severity == severity).count()
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

impl fmt::Display for Finding {
    /// The sentence, then the SQL indented below it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.text)?;
        if let Some(fix) = &self.fix {
            write!(f, "\n   in the {} database:", fix.side)?;
            for line in fix.sql.lines() {
                write!(f, "\n     {line}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Findings {
    /// A numbered list under a line that counts it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.list.is_empty() {
            return f.write_str("preflight found nothing wrong");
        }
        let counted = |count, what| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let errors = counted(self.count(Severity::Error), Severity::Error);
        let warnings = counted(self.count(Severity::Warning), Severity::Warning);
        write!(f, "preflight found {errors} and {warnings}")?;
        for (number, finding) in (1..).zip(&self.list) {
            write!(f, "\n\n{number}. {finding}")?;
        }
        Ok(())
    }
}

/// A text as an SQL literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Names as they stand, each in double quotes, separated by commas.
pub(super) fn quoted_list<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let quoted = names.into_iter().map(|name| Quoted(name.as_ref()).to_string());
    quoted.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{Finding, Findings, literal, quoted_list};

    #[test]
    fn findings_are_a_numbered_list_with_errors_first() {
        let findings = Findings::new(vec![
            Finding::warning("odd"),
            Finding::error("slot \"a\" does not exist").fix_source("SELECT 1;\nSELECT 2;"),
            Finding::error("no key").fix_target("ALTER TABLE t;"),
        ]);
        assert!(findings.has_errors());
        assert_eq!(
            findings.to_string(),
            "preflight found 2 errors and 1 warning\n\
             \n\
             1. error: slot \"a\" does not exist\n   \
                in the source database:\n     \
                  SELECT 1;\n     \
                  SELECT 2;\n\
             \n\
             2. error: no key\n   \
                in the target database:\n     \
                  ALTER TABLE t;\n\
             \n\
             3. warning: odd"
        );
    }

    #[test]
    fn an_empty_list_says_so() {
        assert_eq!(Findings::default().to_string(), "preflight found nothing wrong");
        assert!(!Findings::new(vec![Finding::warning("odd")]).has_errors());
    }

    #[test]
    fn names_and_texts_survive_their_quotes() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(quoted_list(["a", "b\"c"]), "\"a\", \"b\"\"c\"");
    }
}

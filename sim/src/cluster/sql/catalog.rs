//! Questions about the catalog and the server. They are known by the facts that they ask for, and
//! answered from the tables that there are, column by column under the names that the question gives.
mod facts;
mod source;

use super::Role;
use super::data::{Data, Row};
use super::describe::Shape;
use super::error::SqlError;
use super::value::{Base, Type, Value};

/// What a question is asked of.
pub(super) struct Asked<'a> {
    pub(super) data: &'a Data,
    pub(super) role: &'a Role,
    pub(super) user: &'a str,
    pub(super) database: &'a str,
    pub(super) params: &'a [Value],
}

/// A kind of question.
struct Kind {
    /// It is known by this in its text.
    mark: &'static str,
    /// What can be asked.
    columns: &'static [(&'static str, Type)],
    /// The facts, in the order of `columns`.
    rows: fn(&Asked<'_>) -> Result<Vec<Row>, SqlError>,
}

const TEXT: Type = Base::Text.one();
const BOOL: Type = Base::Bool.one();
const INT4: Type = Base::Int4.one();
const INT8: Type = Base::Int8.one();
const TEXTS: Type = Type { base: Base::Text, array: true };

/// The parts of a question that begin with its words, and its output names.
fn kind(sql: &str) -> Result<&'static Kind, SqlError> {
    let kinds = facts::KINDS.iter().chain(source::KINDS);
    kinds.into_iter().find(|kind| sql.contains(kind.mark)).ok_or_else(|| SqlError::unknown(sql))
}

/// What a question takes and returns.
pub(super) fn shape(sql: &str, given: &[u32]) -> Result<Shape, SqlError> {
    let kind = kind(sql)?;
    let columns = outputs(sql).into_iter().map(|name| {
        let known = kind.columns.iter().find(|(known, _)| *known == name);
        known
            .map(|(_, of)| (name.clone(), *of))
            .ok_or_else(|| SqlError::unknown(&format!("column \"{name}\" of the question {sql}")))
    });
    let columns = columns.collect::<Result<_, _>>()?;
    let count = (1..).take_while(|number| sql.contains(&format!("${number}"))).count();
    let of = |number: usize| given.get(number).and_then(|oid| Type::of_oid(*oid)).unwrap_or(TEXT);
    Ok(Shape { params: (0..count.max(given.len())).map(of).collect(), columns })
}

/// The answer.
pub(super) fn answer(sql: &str, asked: &Asked<'_>) -> Result<Vec<Row>, SqlError> {
    let kind = kind(sql)?;
    let place = |name: &String| kind.columns.iter().position(|(known, _)| known == name);
    let places: Vec<usize> = outputs(sql).iter().filter_map(place).collect();
    let rows = (kind.rows)(asked)?;
    assert!(
        rows.iter().all(|row| row.len() == kind.columns.len()),
        "an answer has one value for each column: {}",
        kind.mark
    );
    let row = |row: &Row| places.iter().map(|place| row[*place].clone()).collect();
    Ok(rows.iter().map(row).collect())
}

/// The names of the output columns of the outermost SELECT.
fn outputs(sql: &str) -> Vec<String> {
    if let Some(name) = sql.trim_start().strip_prefix("SHOW ") {
        return vec![name.trim_end_matches(';').trim().to_owned()];
    }
    let list = at_top(sql, "SELECT").last().map_or("", |at| &sql[at + "SELECT".len()..]);
    let list = at_top(list, "FROM").next().map_or(list, |at| &list[..at]);
    let mut commas: Vec<usize> = at_top(list, ",").collect();
    commas.push(list.len());
    let mut from = 0;
    let items = commas.into_iter().map(|to| {
        let item = &list[from..to];
        from = to + 1;
        item.trim()
    });
    items.map(output_name).collect()
}

/// PostgreSQL calls a column what AS says, or else after the column or function in it.
fn output_name(item: &str) -> String {
    if let Some(at) = at_top(item, "AS ").last() {
        return item[at + "AS ".len()..].trim().to_owned();
    }
    let inner = item.split("::").next().unwrap_or_default();
    let inner = inner.split('(').next().unwrap_or_default();
    let name = inner.rsplit('.').next().unwrap_or_default().trim();
    let named = name.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.contains(' ');
    if named { name.to_owned() } else { "?column?".to_owned() }
}

/// Where a word or sign stands outside of parentheses and quotes.
fn at_top<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let (mut depth, mut quoted) = (0_usize, false);
    text.char_indices().filter_map(move |(at, c)| {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            _ => (),
        }
        let begins = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let whole = word == "," || begins;
        (depth == 0 && !quoted && whole && text[at..].starts_with(word)).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::{outputs, shape};

    #[test]
    fn an_answer_has_the_names_that_the_question_gives() {
        let sql = "WITH x AS (SELECT 1 AS a) SELECT n.oid IS NOT NULL AS b, c.relname::TEXT, \
                   ARRAY(SELECT y FROM z) AS d, version()::TEXT, CAST(a AS b), 1 FROM x";
        assert_eq!(outputs(sql), ["b", "relname", "d", "version", "CAST", "?column?"]);
    }

    #[test]
    fn a_question_about_something_else_is_refused_with_its_text() {
        let error = shape("SELECT pg_catalog.pg_backend_pid()", &[]).unwrap_err();
        assert!(error.code == "0A000" && error.message.contains("pg_backend_pid"), "{error:?}");
        let error = shape("SELECT x AS type_schema, y AS colour FROM pg_catalog.z", &[]);
        assert!(error.unwrap_err().message.contains("colour"));
    }
}

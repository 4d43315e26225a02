//! Rows as CockroachDB prints them, as far as the tables of our tests have types.
use anyhow::{Context as _, Result, bail, ensure};
use replicator_core::model::catalog::{Catalog, Table};
use replicator_core::model::mutation::{Change, Mutation};
use replicator_core::model::row::{Cell, Row};

/// The messages that tell of a change, each with its key.
pub(super) fn rows(
    catalog: &Catalog,
    mutation: &Mutation,
    time: u64,
) -> Result<Vec<(String, String)>> {
    let table = catalog.table(mutation.table);
    let message = |row: &Row, after: Option<&Row>| -> Result<(String, String)> {
        let key = key(table, row)?;
        let after = after.map_or(Ok("null".to_owned()), |row| object(table, row))?;
        let topic = quoted(&table.name.table)?;
        let text = format!(
            "{{\"topic\":{topic},\"key\":{key},\"after\":{after},\"updated\":\"{time}.0000000000\"}}"
        );
        Ok((key, text))
    };
    Ok(match &mutation.change {
        Change::Delete(row) => vec![message(row, None)?],
        Change::Insert(row) | Change::Upsert(row) | Change::Update(row) => {
            vec![message(row, Some(row))?]
        }
        Change::Move { from, to } => vec![message(from, None)?, message(to, Some(to))?],
        Change::Truncate => bail!("a changefeed does not tell of truncates"),
    })
}

fn key(table: &Table, row: &Row) -> Result<String> {
    let cells: Result<Vec<String>> = table
        .key
        .iter()
        .map(|column| {
            let cell = row.columns().find(|(index, _)| index == column);
            let (_, cell) = cell.with_context(|| format!("no key in {}", table.name))?;
            value(table, *column, cell)
        })
        .collect();
    Ok(format!("[{}]", cells?.join(",")))
}

fn object(table: &Table, row: &Row) -> Result<String> {
    let members: Result<Vec<String>> = row
        .columns()
        .map(|(column, cell)| {
            let name = quoted(&table.column(column).name)?;
            Ok(format!("{name}:{}", value(table, column, cell)?))
        })
        .collect();
    Ok(format!("{{{}}}", members?.join(",")))
}

fn value(table: &Table, column: u16, cell: Cell<'_>) -> Result<String> {
    let column = table.column(column);
    let text = match cell {
        Cell::Null => return Ok("null".to_owned()),
        Cell::Text(text) => std::str::from_utf8(text)?,
        Cell::Binary(_) | Cell::Unchanged => {
            bail!("the source did not print column {} of {}", column.name, table.name)
        }
    };
    Ok(match column.cast.to_ascii_lowercase().as_str() {
        "int2" | "int4" | "int8" | "smallint" | "integer" | "bigint" | "numeric" | "float4"
        | "float8" | "real" | "double precision" => number(text)?,
        "bool" | "boolean" => (if text == "t" { "true" } else { "false" }).to_owned(),
        "json" | "jsonb" => text.to_owned(),
        cast if cast.ends_with("[]") => array(text, !cast.starts_with("text"))?,
        _ => {
            ensure!(!text.contains('\0'), "no text has a zero byte");
            quoted(text)?
        }
    })
}

/// What JSON has no number for is a string.
fn number(text: &str) -> Result<String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.e".contains(&byte));
    if plain { Ok(text.to_owned()) } else { quoted(text) }
}

fn quoted(text: &str) -> Result<String> {
    Ok(serde_json::to_string(text)?)
}

/// An array of one dimension; its elements are printed as they are, or quoted.
fn array(text: &str, plain: bool) -> Result<String> {
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let inner = inner.context("this is no array")?;
    let (mut elements, mut element, mut was_quoted, mut inside) =
        (Vec::new(), String::new(), false, false);
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                inside = !inside;
                was_quoted = true;
            }
            '\\' => element.extend(characters.next()),
            ',' if !inside => {
                elements.push((std::mem::take(&mut element), std::mem::take(&mut was_quoted)));
            }
            other => element.push(other),
        }
    }
    if !inner.is_empty() {
        elements.push((element, was_quoted));
    }
    let printed: Result<Vec<String>> = elements
        .into_iter()
        .map(|(element, was_quoted)| match (element.as_str(), was_quoted, plain) {
            ("NULL", false, _) => Ok("null".to_owned()),
            (element, _, true) => number(element),
            (element, _, false) => quoted(element),
        })
        .collect();
    Ok(format!("[{}]", printed?.join(",")))
}

#[cfg(test)]
mod tests {
    use super::array;

    #[test]
    fn arrays_are_printed_as_cockroachdb_prints_them() {
        for (text, plain, expected) in [
            ("{}", false, "[]"),
            ("{1,NULL,-2.5,NaN}", true, "[1,null,-2.5,\"NaN\"]"),
            (r#"{a,"b,c","NULL",NULL,"d\"e\\"}"#, false, r#"["a","b,c","NULL",null,"d\"e\\"]"#),
        ] {
            assert_eq!(array(text, plain).unwrap(), expected);
        }
    }
}

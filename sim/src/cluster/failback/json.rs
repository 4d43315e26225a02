//! What changefeeds write into their requests (CockroachDB documentation, "Changefeed Messages").
use replicator_core::model::mutation::TableId;
use replicator_core::model::time::Hlc;

use crate::model::{Does, RowChange};
use crate::schema::{Value, schema};

/// A row of a payload: how a row ended in the transaction of this time.
pub(super) fn row(change: &RowChange, time: Hlc) -> String {
    let table = schema().catalog.table(change.table);
    let after = after(change);
    let key = change.key.iter().map(|value| cell(*value)).collect::<Vec<_>>().join(",");
    let topic = &table.name.table;
    format!("{{\"after\":{after},\"key\":[{key}],\"topic\":\"{topic}\",\"updated\":\"{time}\"}}")
}

/// The same of a feed of a query: the URL names the table, and what is gone is told by what it was.
pub(super) fn result(change: &RowChange, time: Hlc) -> String {
    let after = after(change);
    let before = match change.does {
        Does::Delete => {
            let key = &schema().catalog.table(change.table).key;
            let cells = key.iter().zip(&change.key);
            object(change.table, cells.map(|(column, value)| (usize::from(*column), *value)))
        }
        Does::Put(_) | Does::Set(_) | Does::Move(..) | Does::Truncate => "null".to_owned(),
    };
    format!("{{\"after\":{after},\"before\":{before},\"updated\":\"{time}\"}}")
}

fn after(change: &RowChange) -> String {
    match &change.does {
        Does::Put(row) => object(change.table, row.iter().copied().enumerate()),
        Does::Delete => "null".to_owned(),
        Does::Set(_) | Does::Move(..) | Does::Truncate => {
            unreachable!("a changefeed tells how rows ended")
        }
    }
}

/// Columns with their values.
fn object(table: TableId, cells: impl Iterator<Item = (usize, Value)>) -> String {
    let columns = &schema().catalog.table(table).columns;
    let cells = cells.map(|(at, value)| format!("\"{}\":{}", columns[at].name, cell(value)));
    format!("{{{}}}", cells.collect::<Vec<_>>().join(","))
}

/// A body with rows.
pub(super) fn rows(rows: &[&str]) -> String {
    format!("{{\"payload\":[{}],\"length\":{}}}", rows.join(","), rows.len())
}

/// A body with a promise.
pub(super) fn resolved(time: Hlc) -> String {
    format!("{{\"resolved\":\"{time}\"}}")
}

fn cell(value: Value) -> String {
    value.map_or_else(|| "null".to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::{resolved, result, row, rows};
    use crate::model::{Does, RowChange};
    use crate::schema::schema;
    use replicator_core::model::time::Hlc;

    #[test]
    fn messages_look_like_those_of_a_changefeed() {
        let time = Hlc { nanos: 7, logical: 1 };
        let change = RowChange {
            table: schema().id("plain"),
            key: vec![Some(1)],
            does: Does::Put(vec![Some(1), None, Some(-2), Some(9)]),
        };
        let put = row(&change, time);
        assert_eq!(
            put,
            r#"{"after":{"id":1,"a":null,"b":-2,"v":9},"key":[1],"topic":"plain","updated":"7.0000000001"}"#
        );
        let put = result(&change, time);
        assert_eq!(
            put,
            r#"{"after":{"id":1,"a":null,"b":-2,"v":9},"before":null,"updated":"7.0000000001"}"#
        );
        let gone = RowChange { does: Does::Delete, ..change };
        let result = result(&gone, time);
        assert_eq!(result, r#"{"after":null,"before":{"id":1},"updated":"7.0000000001"}"#);
        let gone = row(&gone, time);
        assert_eq!(gone, r#"{"after":null,"key":[1],"topic":"plain","updated":"7.0000000001"}"#);
        assert_eq!(rows(&["{}", "{}"]), r#"{"payload":[{},{}],"length":2}"#);
        assert_eq!(resolved(time), r#"{"resolved":"7.0000000001"}"#);
    }
}

//! What changefeeds write into their requests (CockroachDB documentation, "Changefeed Messages").
use replicator_core::model::time::Hlc;

use crate::model::{Does, RowChange};
use crate::schema::{Value, schema};

/// A row of a payload: how a row ended in the transaction of this time.
pub(super) fn row(change: &RowChange, time: Hlc) -> String {
    let table = schema().catalog.table(change.table);
    let after = match &change.does {
        Does::Put(row) => {
            let cells = table.columns.iter().zip(row);
            let cells =
                cells.map(|(column, value)| format!("\"{}\":{}", column.name, cell(*value)));
            format!("{{{}}}", cells.collect::<Vec<_>>().join(","))
        }
        Does::Delete => "null".to_owned(),
        Does::Set(_) | Does::Move(..) | Does::Truncate => {
            unreachable!("a changefeed tells how rows ended")
        }
    };
    let key = change.key.iter().map(|value| cell(*value)).collect::<Vec<_>>().join(",");
    let topic = &table.name.table;
    format!("{{\"after\":{after},\"key\":[{key}],\"topic\":\"{topic}\",\"updated\":\"{time}\"}}")
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
    use super::{resolved, row, rows};
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
        let gone = row(&RowChange { does: Does::Delete, ..change }, time);
        assert_eq!(gone, r#"{"after":null,"key":[1],"topic":"plain","updated":"7.0000000001"}"#);
        assert_eq!(rows(&["{}", "{}"]), r#"{"payload":[{},{}],"length":2}"#);
        assert_eq!(resolved(time), r#"{"resolved":"7.0000000001"}"#);
    }
}

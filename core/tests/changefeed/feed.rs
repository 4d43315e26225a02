//! Bodies in, lines of text out.
use std::sync::Arc;

use replicator_core::decode::changefeed::{
    BodyKind, Changefeed, FeedError, Limits, Message, Scope, TargetKind,
};
use replicator_core::model::catalog::{Catalog, Table};
use replicator_core::model::mutation::{Change, TimedMutation};
use replicator_core::model::row::Cell;

use crate::tables::{SCHEMA, catalog};

/// Longer values are shown by their length.
const SHOWN_MAX: usize = 200;

/// A decoder and the tables it knows.
pub(crate) struct Feed {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) decoder: Changefeed,
}

impl Feed {
    pub(crate) fn new(target: TargetKind, tables: Vec<Table>) -> Self {
        Self::with(target, tables, Limits::default())
    }

    pub(crate) fn with(target: TargetKind, tables: Vec<Table>, limits: Limits) -> Self {
        let catalog = catalog(tables);
        let decoder = Changefeed::new(Arc::clone(&catalog), SCHEMA.to_owned(), target, limits);
        Self { catalog, decoder }
    }

    /// The rows of a body.
    pub(crate) fn rows(
        &mut self,
        scope: &Scope,
        kind: BodyKind,
        body: &str,
    ) -> Result<Vec<TimedMutation>, FeedError> {
        match self.decoder.read(scope, kind, body.as_bytes())? {
            Message::Rows(rows) => rows.collect(),
            Message::Resolved(time) => panic!("a promise of {time}"),
        }
    }

    /// The rows of a webhook whose path names no table.
    pub(crate) fn webhook(&mut self, body: &str) -> Result<Vec<String>, FeedError> {
        let rows = self.rows(&Scope::Topics, BodyKind::Webhook, body)?;
        Ok(rows.iter().map(|row| self.show(row)).collect())
    }

    /// The rows of a webhook whose path names a table.
    pub(crate) fn query(&mut self, table: &str, body: &str) -> Result<Vec<String>, FeedError> {
        let scope = Scope::Query(table.to_owned());
        let rows = self.rows(&scope, BodyKind::Webhook, body)?;
        Ok(rows.iter().map(|row| self.show(row)).collect())
    }

    /// The rows of a file of this topic.
    pub(crate) fn lines(&mut self, topic: &str, body: &str) -> Result<Vec<String>, FeedError> {
        let scope = Scope::Topic(topic.to_owned());
        let rows = self.rows(&scope, BodyKind::Lines, body)?;
        Ok(rows.iter().map(|row| self.show(row)).collect())
    }

    /// A row in one line: `=table column=value … @time`, or `-table key=value … @time`.
    pub(crate) fn show(&self, row: &TimedMutation) -> String {
        let table = self.catalog.table(row.mutation.table);
        let (verb, image) = match &row.mutation.change {
            Change::Upsert(row) => ("=", row),
            Change::Delete(row) => ("-", row),
            Change::Insert(_) | Change::Update(_) | Change::Move { .. } | Change::Truncate => {
                panic!("no changefeed says {:?}", row.mutation.change)
            }
        };
        assert_eq!(image.layout().table, row.mutation.table);
        assert_eq!(table.key_of(image).as_ref(), Ok(&row.mutation.key));
        let mut line = format!("{verb}{}", table.name.table);
        for (column, cell) in image.columns() {
            let value = match cell {
                Cell::Null => "NULL".to_owned(),
                Cell::Text(text) if text.len() > SHOWN_MAX => format!("({} bytes)", text.len()),
                Cell::Text(text) => format!("{:?}", std::str::from_utf8(text).expect("text")),
                Cell::Unchanged | Cell::Binary(_) => panic!("no changefeed says {cell:?}"),
            };
            line.push_str(&format!(" {}={value}", table.column(column).name));
        }
        line + &format!(" @{}", row.time)
    }
}

/// A webhook's body of these rows.
pub(crate) fn payload<T: AsRef<str>>(rows: &[T]) -> String {
    let rows: Vec<&str> = rows.iter().map(AsRef::as_ref).collect();
    format!("{{\"payload\":[{}],\"length\":{}}}", rows.join(","), rows.len())
}

//! Requests of the extended protocol.
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use replicator_core::dialect::Product;
use replicator_core::model::ident::TableName;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::error::SqlError;
use super::super::parse::parse_one;
use super::super::run::Answer;
use super::super::value::Value;
use super::{Portal, Prepared, Session, Trouble, broken, columns, format};
use crate::cluster::wire::{Format, Request};

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Carries out a request that is part of a series.
    pub(super) async fn extended(&mut self, request: Request) -> Result<(), Trouble> {
        match request {
            Request::Parse { statement, sql, types } => self.prepare(statement, sql, &types)?,
            Request::Bind { portal, statement, formats, values, result_formats } => {
                let prepared = self.statement(&statement)?;
                self.tx.admit(&prepared.statement)?;
                let params = bound(&prepared, &formats, &values)?;
                self.portals.insert(portal, Portal { prepared, params, formats: result_formats });
                self.wire.reply.bound();
            }
            Request::DescribeStatement(name) => {
                let prepared = self.statement(&name)?;
                let params: Vec<u32> = prepared.shape.params.iter().map(|of| of.oid()).collect();
                self.wire.reply.parameters(&params);
                self.describe(&prepared, &[]);
            }
            Request::DescribePortal(name) => {
                let portal = self.portal(&name)?;
                self.describe(&portal.prepared, &portal.formats);
            }
            Request::Execute { portal, rows_max } => {
                if rows_max != 0 {
                    return Err(SqlError::unknown("a portal that is read in parts").into());
                }
                let Portal { prepared, params, formats } = self.portal(&portal)?;
                self.execute(&prepared, &params, &formats).await?;
            }
            Request::CloseStatement(name) => {
                self.statements.remove(&name);
                self.wire.reply.closed();
            }
            Request::ClosePortal(name) => {
                self.portals.remove(&name);
                self.wire.reply.closed();
            }
            // Rows of a COPY that was refused ("COPY Operations" in the documentation).
            Request::CopyData(_) | Request::CopyDone | Request::CopyFail(_) => (),
            Request::Query(_)
            | Request::Sync
            | Request::Flush
            | Request::Password(_)
            | Request::Terminate => {
                return Err(SqlError::fatal("08P01", "a request out of order").into());
            }
        }
        Ok(())
    }

    fn prepare(&mut self, name: String, sql: String, types: &[u32]) -> Result<(), SqlError> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(SqlError::new("42P05", message));
        }
        let statement = parse_one(&sql)?;
        self.tx.admit(&statement)?;
        let shape = self.shape(&sql, &statement, types)?;
        self.statements.insert(name, Arc::new(Prepared { sql, statement, shape }));
        self.wire.reply.parsed();
        Ok(())
    }

    fn statement(&self, name: &str) -> Result<Arc<Prepared>, SqlError> {
        self.statements.get(name).cloned().ok_or_else(|| {
            SqlError::new("26000", format!("prepared statement \"{name}\" does not exist"))
        })
    }

    fn portal(&self, name: &str) -> Result<Portal, SqlError> {
        let missing = || SqlError::new("34000", format!("portal \"{name}\" does not exist"));
        self.portals.get(name).cloned().ok_or_else(missing)
    }

    fn describe(&mut self, prepared: &Prepared, formats: &[Format]) {
        if prepared.shape.columns.is_empty() {
            self.wire.reply.no_data();
        } else {
            self.wire.reply.columns(&columns(&prepared.shape, formats));
        }
    }

    /// Reads the rows of a COPY to their end, then inserts them.
    pub(super) async fn copy(
        &mut self,
        table: &TableName,
        names: &[String],
    ) -> Result<Answer, Trouble> {
        let (table, columns) = {
            let data = self.server.lock();
            if data.product == Product::Cockroach {
                return Err(SqlError::unknown("COPY through the extended protocol").into());
            }
            let table = data.find(table)?;
            let columns = names.iter().map(|name| data.tables[table].column(name));
            (table, columns.collect::<Result<Vec<usize>, SqlError>>()?)
        };
        self.wire.reply.copy_in(Format::Text, columns.len());
        self.wire.send().await?;
        let mut rows = BytesMut::new();
        loop {
            match self.next().await?.ok_or_else(broken)? {
                Request::CopyData(data) => rows.extend_from_slice(&data),
                Request::CopyDone => break,
                Request::CopyFail(reason) => {
                    let message = format!("COPY from stdin failed: {reason}");
                    return Err(SqlError::new("57014", message).into());
                }
                Request::Sync | Request::Flush => (),
                Request::Query(_)
                | Request::Parse { .. }
                | Request::Bind { .. }
                | Request::DescribeStatement(_)
                | Request::DescribePortal(_)
                | Request::Execute { .. }
                | Request::CloseStatement(_)
                | Request::ClosePortal(_)
                | Request::Password(_)
                | Request::Terminate => {
                    let message = "a request of another kind during COPY from stdin";
                    return Err(SqlError::new("08P01", message).into());
                }
            }
        }
        let limit = self.knobs.lock_wait_max();
        let count = self.tx.run(limit, |work| work.copy(table, &columns, &rows)).await?;
        Ok(Answer::tag(&format!("COPY {count}")))
    }
}

/// The parameters as values.
fn bound(
    prepared: &Prepared,
    formats: &[Format],
    values: &[Option<Bytes>],
) -> Result<Vec<Value>, SqlError> {
    let types = &prepared.shape.params;
    if types.len() != values.len() {
        let (got, wanted) = (values.len(), types.len());
        let message = format!("bind message supplies {got} parameters, but {wanted} are required");
        return Err(SqlError::new("08P01", message));
    }
    let read = |(at, (of, value)): (usize, (&super::super::value::Type, &Option<Bytes>))| {
        let Some(value) = value else { return Ok(Value::Null) };
        of.read(value, format(formats, at) == Format::Binary)
    };
    types.iter().zip(values).enumerate().map(read).collect()
}

//! Why events could not be put together to transactions of the target.
use alloc::boxed::Box;
use alloc::string::String;

use super::binlog::{FieldError, RowsError, TransactionError};
use crate::model::gtid::AnyGtid;
use crate::model::ident::TableName;
use crate::stop::SchemaDrift;

/// The stream cannot be read on. Drop the assembler and begin again from the checkpoint, at once or after an
/// operator has looked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MySqlAssembleError {
    /// An event could not be read, or makes no sense where it is.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// A description of a table, or the front of a row event, could not be read.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Rows could not be read.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// The source and the target do not agree on a table.
    #[error(transparent)]
    Drift(#[from] SchemaDrift),
    /// A row of a table that was never described.
    #[error(
        "source broke the replication protocol: table number {table} was not described before its rows"
    )]
    UnknownTable {
        /// The number.
        table: u64,
    },
    /// A table with two columns of one name for the target.
    #[error("column \"{column}\" of {table} would be a column of the target for the second time")]
    ColumnTwice {
        /// The source table.
        table: TableName,
        /// The column.
        column: String,
    },
    /// Rows have other columns than their table.
    #[error("source broke the replication protocol: rows of {table} do not have its columns")]
    Cells {
        /// The source table.
        table: TableName,
    },
    /// An inserted row lacks values.
    #[error(
        "the binary log does not have all values of a row that was inserted into {table}; run at the source: SET \
         GLOBAL binlog_row_image = FULL, make all sessions new, and copy the table again"
    )]
    InsertIncomplete {
        /// The source table.
        table: TableName,
    },
    /// The source does not say how columns are called.
    #[error(
        "the binary log does not name the columns of {table}; run at the source: SET GLOBAL \
         binlog_row_metadata = FULL, or give --fetchMetadata"
    )]
    Unnamed {
        /// The source table.
        table: TableName,
    },
    /// The catalog tells of columns as they are after a change that is still to come in the log.
    #[error(
        "rows of {table} from before {gtid} cannot be read: the binary log does not name their columns, and the \
         catalog of the source has those after its statement: {statement}. Copy the table again, and start with \
         --defaultGTIDSet as of that copy; with binlog_row_metadata = FULL at the source and without \
         --fetchMetadata the binary log names columns from then on"
    )]
    ColumnsChanged {
        /// The source table.
        table: Box<TableName>,
        /// The change.
        gtid: AnyGtid,
        /// The beginning of its statement.
        statement: String,
    },
    /// Columns are other ones than what was known of them. Once all before that is applied, the catalog is to be read
    /// again.
    #[error("the source changed the columns of a table: {statement}")]
    ColumnsOutdated {
        /// The beginning of the statement.
        statement: String,
    },
    /// A statement changed rows, and the binary log does not have them.
    #[error(
        "the binary log has a statement that changes rows, not the rows: run at the source SET GLOBAL \
         binlog_format = ROW, make all sessions new, and copy the tables again that the statement changed"
    )]
    StatementFormat,
    /// A table was emptied.
    #[error(
        "the source ran TRUNCATE of {table}; empty the table in the target, too, and go on with --truncate \
         ignore, or let it be done with --truncate apply"
    )]
    Truncated {
        /// The source table.
        table: TableName,
    },
    /// A part of a table was emptied, and nobody says of which rows.
    #[error(
        "the source emptied a part of a table, such as a partition; delete the same rows in the target, and go \
         on with --truncate ignore"
    )]
    PartTruncated,
    /// Something of a transaction is undone of which pieces were told. What was told must not be committed; next time
    /// it is to be [kept whole](super::mysql_transaction::MySqlTransactions::keeping_whole).
    #[error("the source undid a part of the large transaction {gtid}, which is read again")]
    Undone {
        /// Its name.
        gtid: AnyGtid,
    },
    /// A part of a transaction that must be held until more is known of it is larger than what may be held.
    #[error(
        "a transaction of the source has more than {limit} bytes of rows that must be held at once, because foreign \
         keys changed rows by themselves or a part of it was undone; give more --memoryLimit"
    )]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
}

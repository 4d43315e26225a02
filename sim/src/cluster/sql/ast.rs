//! The statements that the pretend server understands, taken apart.
use replicator_core::model::ident::TableName;

use super::table::TableDef;
use super::value::Type;

/// A statement.
#[derive(Clone, Debug)]
pub(super) enum Statement {
    Select(Select),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    /// `COPY … FROM STDIN` in text.
    Copy {
        table: TableName,
        columns: Vec<String>,
    },
    /// `CREATE SCHEMA IF NOT EXISTS`.
    CreateSchema(String),
    /// `CREATE DATABASE IF NOT EXISTS`.
    CreateDatabase,
    /// `CREATE TABLE IF NOT EXISTS`.
    CreateTable(Box<TableDef>),
    Begin,
    Commit,
    Rollback,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    /// `SET CONSTRAINTS ALL DEFERRED`.
    Defer,
    /// A question about the catalog, as text.
    Question(String),
    Empty,
}

/// `INSERT INTO table AS alias (columns) rows ON CONFLICT … RETURNING …`.
#[derive(Clone, Debug)]
pub(super) struct Insert {
    pub(super) table: TableName,
    pub(super) alias: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Rows,
    pub(super) conflict: Option<Conflict>,
    pub(super) returning: Vec<Item>,
}

/// What an INSERT inserts.
#[derive(Clone, Debug)]
pub(super) enum Rows {
    Values(Vec<Vec<Expr>>),
    Select(Select),
}

/// `ON CONFLICT (columns) DO NOTHING`, if nothing is set, or `DO UPDATE SET … WHERE filter`.
#[derive(Clone, Debug)]
pub(super) struct Conflict {
    pub(super) columns: Vec<String>,
    pub(super) set: Vec<(String, Expr)>,
    pub(super) filter: Option<Expr>,
}

/// `UPDATE table AS alias SET … FROM … WHERE …`.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) table: TableName,
    pub(super) alias: String,
    pub(super) set: Vec<(String, Expr)>,
    pub(super) from: Vec<From>,
    pub(super) filter: Option<Expr>,
}

/// `DELETE FROM table WHERE …`.
#[derive(Clone, Debug)]
pub(super) struct Delete {
    pub(super) table: TableName,
    pub(super) filter: Option<Expr>,
}

/// `SELECT items FROM from WHERE filter ORDER BY order FOR SHARE`.
#[derive(Clone, Debug)]
pub(super) struct Select {
    pub(super) items: Vec<Item>,
    pub(super) from: Vec<From>,
    pub(super) filter: Option<Expr>,
    pub(super) order: Vec<Expr>,
    pub(super) share: bool,
}

/// An output column.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) expr: Expr,
    pub(super) name: String,
}

/// Where rows come from.
#[derive(Clone, Debug)]
pub(super) enum From {
    Table { name: TableName, alias: String },
    Unnest { lists: Vec<Expr>, alias: String, columns: Vec<String> },
    Select { query: Box<Select>, alias: String },
}

/// An operator with two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    And,
    Or,
    Equal,
    Less,
    LessEqual,
    Add,
    Subtract,
    Divide,
    Join,
}

/// An expression.
#[derive(Clone, Debug)]
pub(super) enum Expr {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    /// `*`, or all columns of the one source there is.
    Star,
    Param(usize),
    Column {
        of: Option<String>,
        name: String,
    },
    Cast(Box<Self>, Type),
    Binary(Op, Box<Self>, Box<Self>),
    Not(Box<Self>),
    /// One WHEN, one ELSE.
    Case(Box<[Self; 3]>),
    /// A function without arguments.
    Call(String),
    Array(Vec<Self>),
    /// `(a, b)`.
    Tuple(Vec<Self>),
    /// `a = ANY(list)`.
    Any(Box<Self>, Box<Self>),
    /// `a IN (b, c)`.
    InList(Box<Self>, Vec<Self>),
    /// `a IN (SELECT …)`.
    InSelect(Box<Self>, Box<Select>),
    Exists(Box<Select>),
    Scalar(Box<Select>),
}

impl Expr {
    /// The parts of a condition that must all hold.
    pub(super) fn conjuncts(&self) -> Vec<&Self> {
        let Self::Binary(Op::And, left, right) = self else { return vec![self] };
        let mut parts = left.conjuncts();
        parts.extend(right.conjuncts());
        parts
    }

    /// The expressions of a tuple, or the one that stands for itself.
    pub(super) fn list(self) -> Vec<Self> {
        if let Self::Tuple(list) = self { list } else { vec![self] }
    }
}

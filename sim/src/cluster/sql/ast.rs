//! The statements that the pretend server understands, taken apart.
use replicator_core::model::ident::TableName;

use super::table::TableDef;
use super::value::{Type, Value};

/// A statement.
#[derive(Clone, Debug)]
pub(super) enum Statement {
    Select(Select),
    Insert(Box<Insert>),
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
    /// `ALTER TABLE table ADD COLUMN IF NOT EXISTS column`, which must be there.
    HasColumn(TableName, String),
    /// `LOCK TABLE table IN SHARE ROW EXCLUSIVE MODE`.
    Lock(TableName),
    /// `CREATE INDEX`. No query needs one.
    CreateIndex,
    /// `WITH name AS (first) then`.
    With(Box<With>),
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

impl Statement {
    /// What it returns, if it changes rows.
    pub(super) fn returning(&self) -> &[Item] {
        if let Self::Insert(insert) = self {
            &insert.returning
        } else if let Self::Update(update) = self {
            &update.returning
        } else if let Self::Delete(delete) = self {
            &delete.returning
        } else {
            &[]
        }
    }
}

/// `WITH name AS (first) then`.
#[derive(Clone, Debug)]
pub(super) struct With {
    pub(super) name: String,
    pub(super) first: Statement,
    pub(super) then: Statement,
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

/// `ON CONFLICT (columns) DO NOTHING`, if nothing is set, or `DO UPDATE SET … WHERE filter`. Without columns any
/// unique index is meant.
#[derive(Clone, Debug)]
pub(super) struct Conflict {
    pub(super) columns: Vec<String>,
    pub(super) set: Vec<(String, Expr)>,
    pub(super) filter: Option<Expr>,
}

/// `UPDATE table AS alias SET … FROM … WHERE … RETURNING …`.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) table: TableName,
    pub(super) alias: String,
    pub(super) set: Vec<(String, Expr)>,
    pub(super) from: Vec<From>,
    pub(super) filter: Option<Expr>,
    pub(super) returning: Vec<Item>,
}

/// `DELETE FROM table WHERE … ORDER BY … LIMIT … RETURNING …`.
#[derive(Clone, Debug)]
pub(super) struct Delete {
    pub(super) table: TableName,
    pub(super) filter: Option<Expr>,
    pub(super) order: Vec<(Expr, bool)>,
    pub(super) limit: Option<Expr>,
    pub(super) returning: Vec<Item>,
}

/// `SELECT DISTINCT ON distinct items FROM from WHERE filter ORDER BY order LIMIT limit FOR SHARE`.
#[derive(Clone, Debug)]
pub(super) struct Select {
    /// What the rows that stay differ in: if this is empty, in all that is selected.
    pub(super) distinct: Option<Vec<Expr>>,
    pub(super) items: Vec<Item>,
    pub(super) from: Vec<From>,
    pub(super) filter: Option<Expr>,
    /// Each with whether the greatest comes first.
    pub(super) order: Vec<(Expr, bool)>,
    pub(super) limit: Option<Expr>,
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
    Table {
        name: TableName,
        alias: String,
    },
    Unnest {
        lists: Vec<Expr>,
        alias: String,
        columns: Vec<String>,
    },
    /// Several are joined by `UNION ALL`.
    Select {
        queries: Vec<Select>,
        alias: String,
    },
}

/// An operator with two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    And,
    Or,
    Equal,
    Differs,
    Less,
    LessEqual,
    Add,
    Subtract,
    Multiply,
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
    IsNull(Box<Self>),
    /// One WHEN, one ELSE.
    Case(Box<[Self; 3]>),
    /// A function without arguments.
    Call(String),
    Coalesce(Vec<Self>),
    Floor(Box<Self>),
    /// Of all rows that a query finds.
    Max(Box<Self>),
    /// How many rows a query finds, as a column of each.
    CountOver,
    /// What was found out before.
    Known(Value),
    Array(Vec<Self>),
    /// `ARRAY(SELECT …)`.
    ArraySelect(Box<Select>),
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
    /// What the aggregates in it are of, from left to right.
    pub(super) fn aggregates(&self) -> Vec<&Self> {
        if let Self::Max(inner) = self {
            return vec![inner];
        }
        let list: Vec<&Self> = if let Self::Binary(_, left, right) = self {
            vec![left, right]
        } else if let Self::Coalesce(list) = self {
            list.iter().collect()
        } else {
            Vec::new()
        };
        list.into_iter().flat_map(Self::aggregates).collect()
    }

    /// The same with values in the places of its aggregates.
    pub(super) fn folded(&self, values: &mut impl Iterator<Item = Value>) -> Self {
        if let Self::Max(_) = self {
            return Self::Known(values.next().unwrap_or(Value::Null));
        }
        if let Self::Binary(op, left, right) = self {
            let left = Box::new(left.folded(values));
            return Self::Binary(*op, left, Box::new(right.folded(values)));
        }
        if let Self::Coalesce(list) = self {
            return Self::Coalesce(list.iter().map(|one| one.folded(values)).collect());
        }
        self.clone()
    }

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

//! Expressions and queries.
use std::sync::Arc;

use super::ast::{Expr, From, Op, Select};
use super::data::{Key, Row, Work};
use super::error::{Halt, SqlError};
use super::table::TableDef;
use super::value::{Base, DECIMAL, Value};
use crate::os::wall_micros;

/// From 1970 to 2000, in microseconds.
const MICROS_TO_2000: i64 = 946_684_800_000_000;

/// Where PostgreSQL keeps a row. Here that is its key.
pub(super) const CTID: &str = "ctid";

/// What names mean at some place of a statement.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) params: &'a [Value],
    pub(super) row: Option<Named<'a>>,
    outer: Option<&'a Self>,
}

/// A row that an expression can refer to.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) alias: &'a str,
    pub(super) columns: Columns<'a>,
    pub(super) row: &'a [Value],
    /// Where it is stored.
    pub(super) place: Option<(usize, &'a Key)>,
}

/// The names of a row's columns.
#[derive(Clone, Copy)]
pub(super) enum Columns<'a> {
    Table(&'a TableDef),
    Names(&'a [String]),
}

impl<'a> Scope<'a> {
    pub(super) const fn new(params: &'a [Value]) -> Self {
        Self { params, row: None, outer: None }
    }

    pub(super) fn with<'b>(&'b self, row: Named<'b>) -> Scope<'b> {
        Scope { params: self.params, row: Some(row), outer: Some(self) }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Named<'a>> {
        std::iter::successors(Some(self), |scope| scope.outer)
            .filter_map(|scope| scope.row.as_ref())
    }

    fn column(&self, of: Option<&str>, name: &str) -> Result<Value, SqlError> {
        let meant = self.rows().filter(|row| of.is_none_or(|of| row.alias == of));
        let found = meant.into_iter().find_map(|row| {
            if let Some((_, key)) = row.place.filter(|_| name == CTID) {
                return Some(Value::List(key.clone()));
            }
            let place = match row.columns {
                Columns::Table(def) => def.column(name).ok(),
                Columns::Names(names) => names.iter().position(|column| column == name),
            };
            Some(row.row[place?].clone())
        });
        let missing = || SqlError::new("42703", format!("column \"{name}\" does not exist"));
        found.ok_or_else(missing)
    }
}

/// What a query does with each row that it finds.
type Found<'f, 'w> = &'f mut dyn FnMut(&mut Work<'w>, &Scope<'_>) -> Result<(), Halt>;

impl<'w> Work<'w> {
    /// Calls `found` for each combination of rows that passes.
    pub(super) fn join(
        &mut self,
        from: &[From],
        filter: Option<&Expr>,
        scope: &Scope<'_>,
        found: Found<'_, 'w>,
    ) -> Result<(), Halt> {
        let Some((first, rest)) = from.split_first() else {
            return if self.holds(filter, scope)? { found(self, scope) } else { Ok(()) };
        };
        match first {
            From::Table { name, alias } if self.with.contains_key(&name.table) => {
                let (names, rows) = self.with[&name.table].clone();
                for row in rows {
                    let columns = Columns::Names(&names);
                    let scope = scope.with(Named { alias, columns, row: &row, place: None });
                    self.join(rest, filter, &scope, found)?;
                }
            }
            From::Table { name, alias } => {
                let table = self.data.find(name)?;
                let def = Arc::clone(&self.data.tables[table]);
                for (key, row) in self.candidates(table, alias, filter, scope)? {
                    let place = Some((table, &key));
                    let columns = Columns::Table(&def);
                    let scope = scope.with(Named { alias, columns, row: &row, place });
                    self.join(rest, filter, &scope, found)?;
                }
            }
            From::Unnest { lists, alias, columns } => {
                for row in self.unnest(lists, scope)? {
                    let columns = Columns::Names(columns);
                    let scope = scope.with(Named { alias, columns, row: &row, place: None });
                    self.join(rest, filter, &scope, found)?;
                }
            }
            From::Select { queries, alias } => {
                let names = names_of(&queries[0])?;
                for query in queries {
                    for row in self.select(query, scope)? {
                        let columns = Columns::Names(&names);
                        let scope = scope.with(Named { alias, columns, row: &row, place: None });
                        self.join(rest, filter, &scope, found)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Lists become the columns of rows.
    fn unnest(&mut self, lists: &[Expr], scope: &Scope<'_>) -> Result<Vec<Row>, Halt> {
        let mut rows: Vec<Row> = Vec::new();
        for (column, list) in lists.iter().enumerate() {
            let Value::List(list) = self.eval(list, scope)? else {
                return Err(SqlError::unknown("unnest of what is no list").into());
            };
            if rows.len() < list.len() {
                rows.resize(list.len(), vec![Value::Null; lists.len()]);
            }
            for (row, value) in rows.iter_mut().zip(list) {
                row[column] = value;
            }
        }
        Ok(rows)
    }

    /// The rows of a table that may pass a filter: by key if the filter gives it, else all.
    pub(super) fn candidates(
        &mut self,
        table: usize,
        alias: &str,
        filter: Option<&Expr>,
        scope: &Scope<'_>,
    ) -> Result<Vec<(Key, Row)>, Halt> {
        let def = Arc::clone(&self.data.tables[table]);
        let parts = filter.map(Expr::conjuncts).unwrap_or_default();
        let equal = |column: &usize| {
            let name = &def.columns[*column].name;
            parts.iter().find_map(|part| {
                let Expr::Binary(Op::Equal, left, right) = part else { return None };
                let given = is_column(left, alias, name) && is_given(right, alias, scope);
                given.then_some(&**right)
            })
        };
        let key: Option<Vec<&Expr>> = def.key().iter().map(equal).collect();
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            return Ok(self.rows(table).map(|(key, row)| (key.clone(), row.clone())).collect());
        };
        let mut values = Key::new();
        for (expr, column) in key.into_iter().zip(def.key()) {
            values.push(def.columns[*column].of.cast(self.eval(expr, scope)?)?);
        }
        Ok(self.get(table, &values).cloned().map(|row| (values, row)).into_iter().collect())
    }

    pub(super) fn holds(&mut self, filter: Option<&Expr>, scope: &Scope<'_>) -> Result<bool, Halt> {
        let Some(filter) = filter else { return Ok(true) };
        Ok(self.eval(filter, scope)? == Value::Bool(true))
    }

    pub(super) fn eval(&mut self, expr: &Expr, scope: &Scope<'_>) -> Result<Value, Halt> {
        Ok(match expr {
            Expr::Null => Value::Null,
            Expr::Bool(value) => Value::Bool(*value),
            Expr::Int(number) => Value::Int(*number),
            Expr::Text(text) => Value::Text(text.clone()),
            Expr::Param(number) => scope.params.get(*number).cloned().ok_or_else(|| {
                SqlError::new("42P02", format!("there is no parameter ${}", number + 1))
            })?,
            Expr::Column { of, name } => scope.column(of.as_deref(), name)?,
            Expr::Cast(inner, of) => of.cast(self.eval(inner, scope)?)?,
            Expr::Binary(op, left, right) => {
                binary(*op, self.eval(left, scope)?, self.eval(right, scope)?)?
            }
            Expr::Not(inner) => {
                let inner = self.eval(inner, scope)?;
                if let Value::Bool(value) = inner { Value::Bool(!value) } else { Value::Null }
            }
            Expr::IsNull(inner) => Value::Bool(self.eval(inner, scope)? == Value::Null),
            Expr::Known(value) => value.clone(),
            Expr::Coalesce(list) => self.coalesce(list, scope)?,
            Expr::Floor(inner) => {
                let inner = self.eval(inner, scope)?;
                let Value::Decimal(parts) = inner else { return Ok(inner) };
                Value::Decimal(parts - parts.rem_euclid(DECIMAL))
            }
            // Until all rows are there.
            Expr::CountOver => Value::Null,
            Expr::ArraySelect(query) => {
                let rows = self.select(query, scope)?.into_iter();
                Value::List(rows.filter_map(|row| row.into_iter().next()).collect())
            }
            Expr::Case(parts) => {
                let [when, then, otherwise] = &**parts;
                let when = self.holds(Some(when), scope)?;
                self.eval(if when { then } else { otherwise }, scope)?
            }
            Expr::Call(name) if name == "now" => Value::Time(self.data.counter),
            Expr::Call(name) if name == "clock_timestamp" => {
                Value::Time(wall_micros() - MICROS_TO_2000)
            }
            Expr::Array(list) | Expr::Tuple(list) => {
                let values = list.iter().map(|item| self.eval(item, scope));
                Value::List(values.collect::<Result<_, _>>()?)
            }
            Expr::Any(one, list) => {
                let (one, list) = (self.eval(one, scope)?, self.eval(list, scope)?);
                let Value::List(list) = list else { return Ok(Value::Null) };
                Value::Bool(list.contains(&one))
            }
            Expr::InList(one, list) => {
                let one = self.eval(one, scope)?;
                let values = list.iter().map(|item| self.eval(item, scope));
                Value::Bool(values.collect::<Result<Vec<_>, _>>()?.contains(&one))
            }
            Expr::InSelect(one, query) => {
                let one = self.eval(one, scope)?;
                let one = if let Value::List(row) = one { row } else { vec![one] };
                Value::Bool(self.select(query, scope)?.contains(&one))
            }
            Expr::Exists(query) => Value::Bool(!self.select(query, scope)?.is_empty()),
            Expr::Scalar(query) => self.scalar(query, scope)?,
            Expr::Star | Expr::Max(_) | Expr::Call(_) => {
                return Err(SqlError::unknown(&format!("the expression {expr:?}")).into());
            }
        })
    }

    /// The first value that is not NULL.
    fn coalesce(&mut self, list: &[Expr], scope: &Scope<'_>) -> Result<Value, Halt> {
        for expr in list {
            let value = self.eval(expr, scope)?;
            if value != Value::Null {
                return Ok(value);
            }
        }
        Ok(Value::Null)
    }

    /// The only value of the only row.
    fn scalar(&mut self, query: &Select, scope: &Scope<'_>) -> Result<Value, Halt> {
        let mut rows = self.select(query, scope)?;
        let row = rows.pop().unwrap_or_default();
        if !rows.is_empty() {
            let message = "more than one row returned by a subquery used as an expression";
            return Err(SqlError::new("21000", message).into());
        }
        Ok(row.into_iter().next().unwrap_or(Value::Null))
    }
}

/// An operator; NULL on one side makes NULL, except where AND and OR know better.
fn binary(op: Op, left: Value, right: Value) -> Result<Value, SqlError> {
    let (no, yes) = (Value::Bool(false), Value::Bool(true));
    match op {
        Op::And if left == no || right == no => return Ok(no),
        Op::Or if left == yes || right == yes => return Ok(yes),
        _ if left == Value::Null || right == Value::Null => return Ok(Value::Null),
        Op::And => return Ok(yes),
        Op::Or => return Ok(no),
        Op::Equal => return Ok(Value::Bool(left == right)),
        Op::Differs => return Ok(Value::Bool(left != right)),
        Op::Less => return Ok(Value::Bool(left < right)),
        Op::LessEqual => return Ok(Value::Bool(left <= right)),
        Op::Join => return Ok(Value::Text(left.to_text() + &right.to_text())),
        Op::Add | Op::Subtract | Op::Multiply | Op::Divide => (),
    }
    match (op, &left, &right) {
        (Op::Subtract, Value::Decimal(from), Value::Decimal(less)) => {
            return Ok(Value::Decimal(from - less));
        }
        (Op::Multiply, Value::Decimal(parts), Value::Int(times)) => {
            return Ok(Value::Decimal(parts * i128::from(*times)));
        }
        (Op::Add, Value::Time(time), Value::Span(span)) => return Ok(Value::Time(time + span)),
        (Op::Subtract, Value::Time(to), Value::Time(from)) => return Ok(Value::Span(to - from)),
        _ => (),
    }
    let (Value::Int(left), Value::Int(right)) = (left, right) else {
        return Err(SqlError::unknown("arithmetic with what is no number"));
    };
    if op == Op::Divide && right == 0 {
        return Err(SqlError::new("22012", "division by zero"));
    }
    let result = if op == Op::Add {
        left.checked_add(right)
    } else if op == Op::Subtract {
        left.checked_sub(right)
    } else if op == Op::Multiply {
        left.checked_mul(right)
    } else {
        left.checked_div(right)
    };
    let error = || SqlError::new("22003", format!("{} out of range", Base::Int8.name()));
    result.map(Value::Int).ok_or_else(error)
}

/// The names of a query's columns.
pub(super) fn names_of(query: &Select) -> Result<Vec<String>, SqlError> {
    match (&query.items[..], &query.from[..]) {
        ([item], [From::Unnest { columns, .. }]) if matches!(item.expr, Expr::Star) => {
            Ok(columns.clone())
        }
        (items, _) if items.iter().any(|item| matches!(item.expr, Expr::Star)) => {
            Err(SqlError::unknown("SELECT * of anything but one unnest"))
        }
        (items, _) => Ok(items.iter().map(|item| item.name.clone()).collect()),
    }
}

fn is_column(expr: &Expr, alias: &str, name: &str) -> bool {
    matches!(expr, Expr::Column { of, name: column }
        if column == name && of.as_deref().is_none_or(|of| of == alias))
}

/// Whether an expression has a value before the rows of `alias` are looked at. Says no where it would
/// have to look closer.
fn is_given(expr: &Expr, alias: &str, scope: &Scope<'_>) -> bool {
    match expr {
        Expr::Null
        | Expr::Bool(_)
        | Expr::Int(_)
        | Expr::Text(_)
        | Expr::Known(_)
        | Expr::Param(_) => true,
        Expr::Column { of, name } => {
            of.as_deref().is_some_and(|of| of != alias && scope.column(Some(of), name).is_ok())
        }
        Expr::Cast(inner, _) => is_given(inner, alias, scope),
        Expr::Star
        | Expr::Binary(..)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::Case(_)
        | Expr::Call(_)
        | Expr::Coalesce(_)
        | Expr::Floor(_)
        | Expr::Max(_)
        | Expr::CountOver
        | Expr::ArraySelect(_)
        | Expr::Array(_)
        | Expr::Tuple(_)
        | Expr::Any(..)
        | Expr::InList(..)
        | Expr::InSelect(..)
        | Expr::Exists(_)
        | Expr::Scalar(_) => false,
    }
}

//! The types of parameters and output columns, which a client asks for before it sends values.
use std::sync::Arc;

use super::ast::{Expr, From, Item, Op, Rows, Select, Statement};
use super::data::Data;
use super::error::SqlError;
use super::eval::names_of;
use super::table::TableDef;
use super::value::{Base, Type};

/// What a statement takes and returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// The types of its parameters.
    pub(super) params: Vec<Type>,
    /// Names and types of what it returns.
    pub(super) columns: Vec<(String, Type)>,
}

/// What is known while a statement is looked at.
struct Look<'a> {
    data: &'a Data,
    /// The tables that it names, wherever.
    tables: Vec<Arc<TableDef>>,
    /// The columns of what else rows come from.
    names: Vec<String>,
    params: Vec<Option<Type>>,
}

/// Tells the shape of a statement on tables. `given` are the types that the client said, 0 for none.
pub(super) fn shape(data: &Data, statement: &Statement, given: &[u32]) -> Result<Shape, SqlError> {
    let params = given.iter().map(|oid| match oid {
        0 => Ok(None),
        oid => {
            Type::of_oid(*oid).map(Some).ok_or_else(|| SqlError::unknown(&format!("type {oid}")))
        }
    });
    let params = params.collect::<Result<_, _>>()?;
    let mut look = Look { data, tables: Vec::new(), names: Vec::new(), params };
    let mut columns = Vec::new();
    match statement {
        Statement::Select(query) => {
            look.query(query)?;
            columns = look.outputs(&query.items);
        }
        Statement::Insert(insert) => {
            let table = look.table(&insert.table)?;
            let types = insert
                .columns
                .iter()
                .map(|name| table.column(name).map(|column| table.columns[column].of));
            let types: Vec<Type> = types.collect::<Result<_, _>>()?;
            match &insert.rows {
                Rows::Values(rows) => {
                    for (expr, of) in rows.iter().flat_map(|row| row.iter().zip(&types)) {
                        look.expect(expr, *of);
                        look.expr(expr)?;
                    }
                }
                Rows::Select(query) => {
                    for (item, of) in query.items.iter().zip(&types) {
                        look.expect(&item.expr, *of);
                    }
                    look.query(query)?;
                }
            }
            if let Some(conflict) = &insert.conflict {
                let set = conflict.set.iter().map(|(_, expr)| expr);
                set.chain(&conflict.filter).try_for_each(|expr| look.expr(expr))?;
            }
            insert.returning.iter().try_for_each(|item| look.expr(&item.expr))?;
            columns = look.outputs(&insert.returning);
        }
        Statement::Update(update) => {
            look.table(&update.table)?;
            look.from(&update.from)?;
            for expr in update.set.iter().map(|(_, expr)| expr).chain(&update.filter) {
                look.expr(expr)?;
            }
        }
        Statement::Delete(delete) => {
            look.table(&delete.table)?;
            delete.filter.iter().try_for_each(|filter| look.expr(filter))?;
        }
        Statement::Copy { table, .. } => drop(look.table(table)?),
        Statement::Question(_)
        | Statement::CreateDatabase
        | Statement::CreateSchema(_)
        | Statement::CreateTable(_)
        | Statement::Begin
        | Statement::Commit
        | Statement::Rollback
        | Statement::Savepoint(_)
        | Statement::Release(_)
        | Statement::RollbackTo(_)
        | Statement::Defer
        | Statement::Empty => (),
    }
    let params = look.params.into_iter().map(|of| of.unwrap_or(Base::Text.one())).collect();
    Ok(Shape { params, columns })
}

impl Look<'_> {
    fn table(
        &mut self,
        name: &replicator_core::model::ident::TableName,
    ) -> Result<Arc<TableDef>, SqlError> {
        let table = Arc::clone(&self.data.tables[self.data.find(name)?]);
        self.tables.push(Arc::clone(&table));
        Ok(table)
    }

    fn query(&mut self, query: &Select) -> Result<(), SqlError> {
        self.from(&query.from)?;
        let items = query.items.iter().map(|item| &item.expr);
        items.chain(&query.filter).chain(&query.order).try_for_each(|expr| self.expr(expr))
    }

    fn from(&mut self, from: &[From]) -> Result<(), SqlError> {
        for source in from {
            match source {
                From::Table { name, .. } => drop(self.table(name)?),
                From::Unnest { lists, columns, .. } => {
                    self.names.extend_from_slice(columns);
                    lists.iter().try_for_each(|list| self.expr(list))?;
                }
                From::Select { query, .. } => {
                    self.query(query)?;
                    self.names.extend(names_of(query)?);
                }
            }
        }
        Ok(())
    }

    fn expr(&mut self, expr: &Expr) -> Result<(), SqlError> {
        match expr {
            Expr::Param(number) => {
                let len = self.params.len().max(number + 1);
                self.params.resize(len, None);
                Ok(())
            }
            Expr::Cast(inner, of) => {
                self.expect(inner, *of);
                self.expr(inner)
            }
            Expr::Binary(_, left, right) => {
                self.expr(left)?;
                self.expr(right)?;
                let (of_left, of_right) = (self.type_of(left), self.type_of(right));
                of_right.inspect(|of| self.expect(left, *of));
                of_left.inspect(|of| self.expect(right, *of));
                Ok(())
            }
            Expr::Not(inner) => self.expr(inner),
            Expr::Case(parts) => parts.iter().try_for_each(|part| self.expr(part)),
            Expr::Array(list) | Expr::Tuple(list) => list.iter().try_for_each(|one| self.expr(one)),
            Expr::Any(one, list) => self.expr(one).and_then(|()| self.expr(list)),
            Expr::InList(one, list) => {
                self.expr(one)?;
                list.iter().try_for_each(|one| self.expr(one))
            }
            Expr::InSelect(one, query) => self.expr(one).and_then(|()| self.query(query)),
            Expr::Exists(query) | Expr::Scalar(query) => self.query(query),
            Expr::Null
            | Expr::Bool(_)
            | Expr::Int(_)
            | Expr::Text(_)
            | Expr::Star
            | Expr::Call(_) => Ok(()),
            Expr::Column { name, .. } => {
                let known = self.tables.iter().any(|table| table.column(name).is_ok());
                if known || self.names.contains(name) {
                    return Ok(());
                }
                Err(SqlError::new("42703", format!("column \"{name}\" does not exist")))
            }
        }
    }

    /// A parameter takes the type that its place asks for, unless it has one.
    fn expect(&mut self, expr: &Expr, of: Type) {
        if let Expr::Param(number) = expr {
            let len = self.params.len().max(number + 1);
            self.params.resize(len, None);
            self.params[*number].get_or_insert(of);
        }
    }

    fn outputs(&self, items: &[Item]) -> Vec<(String, Type)> {
        let of = |expr| self.type_of(expr).unwrap_or(Base::Text.one());
        items.iter().map(|item| (item.name.clone(), of(&item.expr))).collect()
    }

    /// The type of an expression, unless nothing tells.
    fn type_of(&self, expr: &Expr) -> Option<Type> {
        Some(match expr {
            Expr::Param(number) => (*self.params.get(*number)?)?,
            Expr::Column { name, .. } => {
                let place = |table: &Arc<TableDef>| table.column(name).ok();
                let found = self.tables.iter().find_map(|table| Some((table, place(table)?)));
                let (table, column) = found?;
                table.columns[column].of
            }
            Expr::Cast(_, of) => *of,
            Expr::Int(_) => Base::Int4.one(),
            Expr::Text(_) | Expr::Binary(Op::Join, ..) => Base::Text.one(),
            Expr::Binary(Op::Add | Op::Subtract | Op::Divide, left, right) => {
                self.type_of(left)?.max(self.type_of(right)?)
            }
            Expr::Case(parts) => {
                let [_, then, otherwise] = &**parts;
                self.type_of(then).or_else(|| self.type_of(otherwise))?
            }
            Expr::Call(_) => Base::Timestamptz.one(),
            Expr::Scalar(query) => self.type_of(&query.items.first()?.expr)?,
            Expr::Null | Expr::Star | Expr::Array(_) | Expr::Tuple(_) => return None,
            Expr::Bool(_)
            | Expr::Binary(Op::And | Op::Or | Op::Equal | Op::Less | Op::LessEqual, ..)
            | Expr::Not(_)
            | Expr::Any(..)
            | Expr::InList(..)
            | Expr::InSelect(..)
            | Expr::Exists(_) => Base::Bool.one(),
        })
    }
}

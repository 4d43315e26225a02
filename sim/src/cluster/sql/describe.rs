//! The types of parameters and output columns, which a client asks for before it sends values.
use std::sync::Arc;

use super::ast::{Expr, From, Insert, Item, Op, Rows, Select, Statement};
use super::data::Data;
use super::error::SqlError;
use super::eval::{CTID, names_of};
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
    /// The columns of what else rows come from, and what is known of their types.
    names: Vec<(String, Option<Type>)>,
    /// What goes before the statement.
    with: Vec<String>,
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
    let mut look = Look { data, tables: Vec::new(), names: Vec::new(), with: Vec::new(), params };
    let columns = look.statement(statement)?;
    let params = look.params.into_iter().map(|of| of.unwrap_or(Base::Text.one())).collect();
    Ok(Shape { params, columns })
}

impl Look<'_> {
    /// The columns that a statement returns.
    fn statement(&mut self, statement: &Statement) -> Result<Vec<(String, Type)>, SqlError> {
        let mut columns = Vec::new();
        match statement {
            Statement::Select(query) => {
                self.query(query)?;
                columns = self.outputs(&query.items);
            }
            Statement::Insert(insert) => columns = self.insert(insert)?,
            Statement::Update(update) => {
                self.table(&update.table)?;
                self.from(&update.from)?;
                let exprs = update.set.iter().map(|(_, expr)| expr).chain(&update.filter);
                let returned = update.returning.iter().map(|item| &item.expr);
                exprs.chain(returned).try_for_each(|expr| self.expr(expr))?;
                columns = self.outputs(&update.returning);
            }
            Statement::Delete(delete) => {
                self.table(&delete.table)?;
                delete.filter.iter().try_for_each(|filter| self.expr(filter))?;
                delete.limit.iter().try_for_each(|limit| self.expr(limit))?;
                delete.order.iter().try_for_each(|(expr, _)| self.expr(expr))?;
                delete.returning.iter().try_for_each(|item| self.expr(&item.expr))?;
                columns = self.outputs(&delete.returning);
            }
            Statement::With(with) => {
                let columns = self.statement(&with.first)?;
                self.with.push(with.name.clone());
                self.names.extend(columns.into_iter().map(|(name, of)| (name, Some(of))));
                return self.statement(&with.then);
            }
            Statement::Copy { table, .. } => drop(self.table(table)?),
            Statement::Question(_)
            | Statement::CreateDatabase
            | Statement::CreateSchema(_)
            | Statement::CreateTable(_)
            | Statement::CreateIndex
            | Statement::Lock(_)
            | Statement::HasColumn(..)
            | Statement::Begin
            | Statement::Commit
            | Statement::Rollback
            | Statement::Savepoint(_)
            | Statement::Release(_)
            | Statement::RollbackTo(_)
            | Statement::Defer
            | Statement::Empty => (),
        }
        Ok(columns)
    }

    fn insert(&mut self, insert: &Insert) -> Result<Vec<(String, Type)>, SqlError> {
        let table = self.table(&insert.table)?;
        let types = insert
            .columns
            .iter()
            .map(|name| table.column(name).map(|column| table.columns[column].of));
        let types: Vec<Type> = types.collect::<Result<_, _>>()?;
        match &insert.rows {
            Rows::Values(rows) => {
                for (expr, of) in rows.iter().flat_map(|row| row.iter().zip(&types)) {
                    self.expect(expr, *of);
                    self.expr(expr)?;
                }
            }
            Rows::Select(query) => {
                for (item, of) in query.items.iter().zip(&types) {
                    self.expect(&item.expr, *of);
                }
                self.query(query)?;
            }
        }
        if let Some(conflict) = &insert.conflict {
            let set = conflict.set.iter().map(|(_, expr)| expr);
            set.chain(&conflict.filter).try_for_each(|expr| self.expr(expr))?;
        }
        insert.returning.iter().try_for_each(|item| self.expr(&item.expr))?;
        Ok(self.outputs(&insert.returning))
    }

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
        let order = query.order.iter().map(|(expr, _)| expr);
        let order = order.filter(|expr| query.output(expr).is_none());
        let distinct = query.distinct.iter().flatten();
        let all = items.chain(&query.filter).chain(order).chain(distinct).chain(&query.limit);
        all.into_iter().try_for_each(|expr| self.expr(expr))
    }

    fn from(&mut self, from: &[From]) -> Result<(), SqlError> {
        for source in from {
            match source {
                From::Table { name, .. } if self.with.contains(&name.table) => (),
                From::Table { name, .. } => drop(self.table(name)?),
                From::Unnest { lists, columns, .. } => {
                    lists.iter().try_for_each(|list| self.expr(list))?;
                    let types = lists.iter().map(|list| self.type_of(list));
                    let types: Vec<_> = types.map(|of| of.map(|of| of.base.one())).collect();
                    self.names.extend(columns.iter().cloned().zip(types));
                }
                From::Select { queries, .. } => {
                    queries.iter().try_for_each(|query| self.query(query))?;
                    let items = &queries[0].items;
                    let types = items.iter().map(|item| self.type_of(&item.expr));
                    let types: Vec<_> = types.collect();
                    // With a star there is one item, and its columns have no types of their own.
                    let types = types.into_iter().chain(std::iter::repeat(None));
                    self.names.extend(names_of(&queries[0])?.into_iter().zip(types));
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
            Expr::Not(inner) | Expr::IsNull(inner) | Expr::Floor(inner) | Expr::Max(inner) => {
                self.expr(inner)
            }
            Expr::Case(parts) => parts.iter().try_for_each(|part| self.expr(part)),
            Expr::Array(list) | Expr::Tuple(list) | Expr::Coalesce(list) => {
                list.iter().try_for_each(|one| self.expr(one))
            }
            Expr::Any(one, list) => self.expr(one).and_then(|()| self.expr(list)),
            Expr::InList(one, list) => {
                self.expr(one)?;
                list.iter().try_for_each(|one| self.expr(one))
            }
            Expr::InSelect(one, query) => self.expr(one).and_then(|()| self.query(query)),
            Expr::Exists(query) | Expr::Scalar(query) | Expr::ArraySelect(query) => {
                self.query(query)
            }
            Expr::Null
            | Expr::Bool(_)
            | Expr::Int(_)
            | Expr::Text(_)
            | Expr::Star
            | Expr::Known(_)
            | Expr::CountOver
            | Expr::Call(_) => Ok(()),
            Expr::Column { name, .. } => {
                let known = self.tables.iter().any(|table| table.column(name).is_ok());
                let named = self.names.iter().any(|(known, _)| known == name);
                if known || named || name == CTID {
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
                match found {
                    Some((table, column)) => table.columns[column].of,
                    None => self.names.iter().find(|(known, _)| known == name)?.1?,
                }
            }
            Expr::Cast(_, of) => *of,
            Expr::Int(_) => Base::Int4.one(),
            Expr::Text(_) | Expr::Binary(Op::Join, ..) => Base::Text.one(),
            Expr::Floor(_) => Base::Numeric.one(),
            Expr::CountOver => Base::Int8.one(),
            Expr::Max(inner) => self.type_of(inner)?,
            Expr::Coalesce(list) => list.iter().find_map(|one| self.type_of(one))?,
            Expr::Binary(Op::Add | Op::Subtract | Op::Multiply | Op::Divide, left, right) => {
                self.type_of(left)?.max(self.type_of(right)?)
            }
            Expr::Case(parts) => {
                let [_, then, otherwise] = &**parts;
                self.type_of(then).or_else(|| self.type_of(otherwise))?
            }
            Expr::Call(_) => Base::Timestamptz.one(),
            Expr::Scalar(query) => self.type_of(&query.items.first()?.expr)?,
            Expr::Null
            | Expr::Star
            | Expr::Known(_)
            | Expr::Array(_)
            | Expr::ArraySelect(_)
            | Expr::Tuple(_) => return None,
            Expr::Bool(_)
            | Expr::Binary(
                Op::And | Op::Or | Op::Equal | Op::Differs | Op::Less | Op::LessEqual,
                ..,
            )
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::Any(..)
            | Expr::InList(..)
            | Expr::InSelect(..)
            | Expr::Exists(_) => Base::Bool.one(),
        })
    }
}

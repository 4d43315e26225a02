//! Expressions, loosest operator first (PostgreSQL documentation, "Operator Precedence").
use super::super::ast::{Expr, Op};
use super::super::error::SqlError;
use super::super::token::Token;
use super::super::value::{Base, Type};
use super::Parser;

/// Operators from loose to tight.
const LEVELS: [&[(&str, Op)]; 4] = [
    &[("=", Op::Equal), ("<>", Op::Differs), ("<=", Op::LessEqual), ("<", Op::Less)],
    &[("||", Op::Join)],
    &[("+", Op::Add), ("-", Op::Subtract)],
    &[("/", Op::Divide), ("*", Op::Multiply)],
];

impl Parser<'_> {
    pub(super) fn expr(&mut self) -> Result<Expr, SqlError> {
        let mut left = self.all_of()?;
        while self.takes("OR") {
            left = Expr::Binary(Op::Or, Box::new(left), Box::new(self.all_of()?));
        }
        Ok(left)
    }

    fn all_of(&mut self) -> Result<Expr, SqlError> {
        let mut left = self.not()?;
        while self.takes("AND") {
            left = Expr::Binary(Op::And, Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr, SqlError> {
        if self.takes("NOT") { Ok(Expr::Not(Box::new(self.not()?))) } else { self.level(0) }
    }

    fn level(&mut self, level: usize) -> Result<Expr, SqlError> {
        let Some(operators) = LEVELS.get(level) else { return self.cast() };
        let mut left = self.level(level + 1)?;
        loop {
            if level == 0 && self.takes("IN") {
                left = self.one_of(left)?;
                continue;
            }
            if level == 0 && self.takes("IS NULL") {
                left = Expr::IsNull(Box::new(left));
                continue;
            }
            // The other way round.
            let swapped = [(">=", Op::LessEqual), (">", Op::Less)];
            let swapped = swapped.iter().filter(|_| level == 0);
            if let Some((_, op)) = swapped.clone().find(|(sign, _)| self.takes_sign(sign)) {
                left = Expr::Binary(*op, Box::new(self.level(level + 1)?), Box::new(left));
                continue;
            }
            let Some((_, op)) = operators.iter().find(|(sign, _)| self.takes_sign(sign)) else {
                return Ok(left);
            };
            if *op == Op::Equal && self.takes("ANY") {
                self.needs_sign("(")?;
                left = Expr::Any(Box::new(left), Box::new(self.expr()?));
                self.needs_sign(")")?;
            } else {
                left = Expr::Binary(*op, Box::new(left), Box::new(self.level(level + 1)?));
            }
        }
    }

    /// After `left IN`.
    fn one_of(&mut self, left: Expr) -> Result<Expr, SqlError> {
        self.needs_sign("(")?;
        let found = if self.takes("SELECT") {
            Expr::InSelect(Box::new(left), Box::new(self.select()?))
        } else {
            Expr::InList(Box::new(left), self.list(Self::expr)?)
        };
        self.needs_sign(")")?;
        Ok(found)
    }

    fn cast(&mut self) -> Result<Expr, SqlError> {
        let mut value = self.operand()?;
        if self.takes("AT TIME ZONE") {
            // There is one.
            if self.next()? != Token::Text("UTC".to_owned()) {
                return Err(self.unknown());
            }
            return Ok(Expr::Cast(Box::new(value), Base::Timestamp.one()));
        }
        while self.takes_sign("::") {
            let name = self.name()?;
            let base = Type::named(&name)
                .ok_or_else(|| SqlError::new("42704", format!("type \"{name}\" does not exist")))?;
            let array = self.takes_sign("[");
            if array {
                self.needs_sign("]")?;
            }
            value = Expr::Cast(Box::new(value), Type { base, array });
        }
        Ok(value)
    }

    fn operand(&mut self) -> Result<Expr, SqlError> {
        if self.takes("NULL") {
            return Ok(Expr::Null);
        }
        if self.takes("true") {
            return Ok(Expr::Bool(true));
        }
        if self.takes("false") {
            return Ok(Expr::Bool(false));
        }
        if self.takes("CASE WHEN") {
            let when = self.expr()?;
            self.needs("THEN")?;
            let then = self.expr()?;
            self.needs("ELSE")?;
            let otherwise = self.expr()?;
            self.needs("END")?;
            return Ok(Expr::Case(Box::new([when, then, otherwise])));
        }
        if self.takes("EXISTS") {
            self.needs_sign("(")?;
            self.needs("SELECT")?;
            let query = Box::new(self.select()?);
            self.needs_sign(")")?;
            return Ok(Expr::Exists(query));
        }
        if self.takes("INTERVAL") {
            let length = Box::new(self.operand()?);
            return Ok(Expr::Cast(length, Base::Interval.one()));
        }
        if self.takes("ARRAY") {
            if self.takes_sign("(") {
                self.needs("SELECT")?;
                let query = Box::new(self.select()?);
                self.needs_sign(")")?;
                return Ok(Expr::ArraySelect(query));
            }
            self.needs_sign("[")?;
            let list = self.list(Self::expr)?;
            self.needs_sign("]")?;
            return Ok(Expr::Array(list));
        }
        match self.next()? {
            Token::Number(number) => Ok(Expr::Int(number)),
            Token::Text(text) => Ok(Expr::Text(text)),
            Token::Param(number) => Ok(Expr::Param(number)),
            Token::Sign("*") => Ok(Expr::Star),
            Token::Sign("(") => self.parenthesis(),
            Token::Word(first) | Token::Quoted(first) => self.column_or_call(first),
            Token::Sign(_) => {
                self.at -= 1;
                Err(self.unknown())
            }
        }
    }

    fn parenthesis(&mut self) -> Result<Expr, SqlError> {
        if self.takes("SELECT") {
            let query = Box::new(self.select()?);
            self.needs_sign(")")?;
            return Ok(Expr::Scalar(query));
        }
        let mut list = self.list(Self::expr)?;
        self.needs_sign(")")?;
        if list.len() == 1 {
            return Ok(list.remove(0));
        }
        Ok(Expr::Tuple(list))
    }

    fn column_or_call(&mut self, first: String) -> Result<Expr, SqlError> {
        if self.takes_sign(".") {
            return Ok(Expr::Column { of: Some(first), name: self.name()? });
        }
        if self.takes_sign("(") {
            if first == "extract" && self.takes("epoch FROM") {
                let span = Box::new(self.expr()?);
                self.needs_sign(")")?;
                return Ok(Expr::Cast(span, Base::Float8.one()));
            }
            if first == "coalesce" {
                self.at -= 1;
                return Ok(Expr::Coalesce(self.in_parens(Self::expr)?));
            }
            if first == "count" {
                self.needs_sign("*")?;
                self.needs_sign(")")?;
                self.needs("OVER")?;
                self.needs_sign("(")?;
                self.needs_sign(")")?;
                return Ok(Expr::CountOver);
            }
            if first == "max" || first == "floor" {
                let of = Box::new(self.expr()?);
                self.needs_sign(")")?;
                return Ok(if first == "max" { Expr::Max(of) } else { Expr::Floor(of) });
            }
            self.needs_sign(")")?;
            return Ok(Expr::Call(first));
        }
        Ok(Expr::Column { of: None, name: first })
    }
}

impl Expr {
    /// What an output column is called that has no name of its own.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Column { name, .. } | Self::Call(name) => name.clone(),
            Self::Cast(inner, of) => match inner.name().as_str() {
                "?column?" => of.base.name().to_owned(),
                name => name.to_owned(),
            },
            Self::Case(_) => "case".to_owned(),
            Self::Exists(_) => "exists".to_owned(),
            Self::Coalesce(_) => "coalesce".to_owned(),
            Self::Max(_) => "max".to_owned(),
            Self::Floor(_) => "floor".to_owned(),
            Self::CountOver => "count".to_owned(),
            Self::ArraySelect(_) => "array".to_owned(),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Text(_)
            | Self::Star
            | Self::Param(_)
            | Self::Binary(..)
            | Self::Not(_)
            | Self::IsNull(_)
            | Self::Known(_)
            | Self::Array(_)
            | Self::Tuple(_)
            | Self::Any(..)
            | Self::InList(..)
            | Self::InSelect(..)
            | Self::Scalar(_) => "?column?".to_owned(),
        }
    }
}

//! The few types that the pretend server has, and how their values travel.
use bytes::{BufMut as _, Bytes, BytesMut};

use super::error::SqlError;

/// A type without its array form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    /// `bool`.
    Bool,
    /// `bytea`.
    Bytea,
    /// `float8`, of which there are only spans in seconds.
    Float8,
    /// `int2`.
    Int2,
    /// `int4`.
    Int4,
    /// `int8`.
    Int8,
    /// `interval`, in whole seconds.
    Interval,
    /// `jsonb`, kept as its text.
    Jsonb,
    /// `numeric`, of which there are times of changefeeds: nanoseconds, and ten digits behind the point.
    Numeric,
    /// `text`.
    Text,
    /// `timestamp`, which is in UTC.
    Timestamp,
    /// `timestamptz`.
    Timestamptz,
    /// `uuid`, kept as its text.
    Uuid,
}

/// A type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Type {
    /// Of the value, or of its elements.
    pub base: Base,
    /// Whether it is an array of them.
    pub array: bool,
}

/// A value. Equal values compare equal, whatever size of number they came as.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// NULL.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Text, and what is kept as text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Microseconds since 2000.
    Time(i64),
    /// A number in parts of 10^10.
    Decimal(i128),
    /// Microseconds from one time to another.
    Span(i64),
    /// An array of one dimension.
    List(Vec<Self>),
}

/// A whole number in the parts of [`Value::Decimal`].
pub(super) const DECIMAL: i128 = 10_000_000_000;

/// Name in SQL, OID of the type and of its array (`pg_type.dat`).
const TYPES: [(Base, &str, u32, u32); 13] = [
    (Base::Bool, "bool", 16, 1000),
    (Base::Bytea, "bytea", 17, 1001),
    (Base::Float8, "float8", 701, 1022),
    (Base::Int2, "int2", 21, 1005),
    (Base::Int4, "int4", 23, 1007),
    (Base::Int8, "int8", 20, 1016),
    (Base::Interval, "interval", 1186, 1187),
    (Base::Jsonb, "jsonb", 3802, 3807),
    (Base::Numeric, "numeric", 1700, 1231),
    (Base::Text, "text", 25, 1009),
    (Base::Timestamp, "timestamp", 1114, 1115),
    (Base::Timestamptz, "timestamptz", 1184, 1185),
    (Base::Uuid, "uuid", 2950, 2951),
];

impl Base {
    /// Its name in `pg_type`.
    pub(super) fn name(self) -> &'static str {
        TYPES.iter().find(|(base, ..)| *base == self).map_or("", |(_, name, ..)| name)
    }

    pub(super) const fn one(self) -> Type {
        Type { base: self, array: false }
    }
}

impl Type {
    /// The type of this name, without brackets, in any case of letters.
    pub(super) fn named(name: &str) -> Option<Base> {
        let name = match name.to_ascii_lowercase() {
            name if name == "decimal" => "numeric".to_owned(),
            name => name,
        };
        TYPES.iter().find(|(_, known, ..)| *known == name).map(|(base, ..)| *base)
    }

    pub(super) fn of_oid(oid: u32) -> Option<Self> {
        let (base, _, one, _) =
            TYPES.iter().find(|(_, _, one, array)| *one == oid || *array == oid)?;
        Some(Self { base: *base, array: *one != oid })
    }

    pub(super) fn oid(self) -> u32 {
        let found = TYPES.iter().find(|(base, ..)| *base == self.base);
        let (_, _, one, array) = found.expect("every type is listed");
        if self.array { *array } else { *one }
    }

    /// Reads a value of this type from its text, as a cast or an assignment does.
    pub(super) fn parse(self, text: &str) -> Result<Value, SqlError> {
        let invalid = || {
            let name = self.base.name();
            SqlError::new("22P02", format!("invalid input syntax for type {name}: \"{text}\""))
        };
        if self.array {
            return Err(SqlError::unknown("an array as text"));
        }
        Ok(match self.base {
            Base::Bool => Value::Bool(match text {
                "t" | "true" => true,
                "f" | "false" => false,
                _ => return Err(invalid()),
            }),
            Base::Int2 | Base::Int4 | Base::Int8 => {
                let number = text.trim().parse().map_err(|_| invalid())?;
                self.fits(number)?
            }
            Base::Bytea => match text.strip_prefix("\\x") {
                Some(digits) => Value::Bytes(hex(digits).ok_or_else(invalid)?),
                None if text.contains('\\') => return Err(SqlError::unknown("escapes in a bytea")),
                None => Value::Bytes(text.as_bytes().to_vec()),
            },
            Base::Jsonb | Base::Text | Base::Uuid => Value::Text(text.to_owned()),
            Base::Numeric => Value::Decimal(decimal(text).ok_or_else(invalid)?),
            Base::Interval => {
                let seconds = text.strip_suffix(" seconds").and_then(|text| text.parse().ok());
                let micros = seconds.and_then(|seconds: i64| seconds.checked_mul(1_000_000));
                Value::Span(micros.ok_or_else(invalid)?)
            }
            Base::Float8 | Base::Timestamp | Base::Timestamptz => {
                return Err(SqlError::unknown("a time as text"));
            }
        })
    }

    fn fits(self, number: i64) -> Result<Value, SqlError> {
        let fits = match self.base {
            Base::Int2 => i16::try_from(number).is_ok(),
            Base::Int4 => i32::try_from(number).is_ok(),
            Base::Int8
            | Base::Bool
            | Base::Bytea
            | Base::Float8
            | Base::Interval
            | Base::Jsonb
            | Base::Numeric
            | Base::Text
            | Base::Timestamp
            | Base::Timestamptz
            | Base::Uuid => true,
        };
        let error = || SqlError::new("22003", format!("{} out of range", self.base.name()));
        if fits { Ok(Value::Int(number)) } else { Err(error()) }
    }

    /// The value as this type: `CAST`, and what an assignment to a column does.
    pub(super) fn cast(self, value: Value) -> Result<Value, SqlError> {
        match (value, self.base) {
            (Value::Null, _) => Ok(Value::Null),
            (Value::List(list), _) if self.array => {
                let one = self.base.one();
                list.into_iter()
                    .map(|value| one.cast(value))
                    .collect::<Result<_, _>>()
                    .map(Value::List)
            }
            (Value::Int(number), Base::Int2 | Base::Int4 | Base::Int8) => self.fits(number),
            (value @ Value::Decimal(_), Base::Numeric) => Ok(value),
            (Value::Decimal(parts), Base::Int8) if parts % DECIMAL == 0 => {
                let error = || SqlError::new("22003", "bigint out of range");
                i64::try_from(parts / DECIMAL).map(Value::Int).map_err(|_| error())
            }
            (Value::Text(text), _) => self.parse(&text),
            (value @ Value::Bytes(_), Base::Bytea)
            | (value @ Value::Bool(_), Base::Bool)
            | (value @ Value::Time(_), Base::Timestamp | Base::Timestamptz)
            | (value @ Value::Span(_), Base::Float8 | Base::Interval) => Ok(value),
            (value, Base::Text) => Ok(Value::Text(value.to_text())),
            (value, base) => {
                let message = format!("cannot cast {value:?} to type {}", base.name());
                Err(SqlError::new("42846", message))
            }
        }
    }

    /// Reads a parameter: in text if `binary` is not set.
    pub(super) fn read(self, bytes: &[u8], binary: bool) -> Result<Value, SqlError> {
        let broken = || SqlError::new("22P03", "incorrect binary data format in bind parameter");
        let text = || String::from_utf8(bytes.to_vec()).map_err(|_| broken());
        if !binary {
            return self.parse(&text()?);
        }
        if self.array {
            return read_array(self.base.one(), bytes).ok_or_else(broken)?;
        }
        Ok(match self.base {
            Base::Bool => Value::Bool(*bytes.first().ok_or_else(broken)? != 0),
            Base::Bytea => Value::Bytes(bytes.to_vec()),
            Base::Int2 => Value::Int(i16::from_be_bytes(fixed(bytes).ok_or_else(broken)?).into()),
            Base::Int4 => Value::Int(i32::from_be_bytes(fixed(bytes).ok_or_else(broken)?).into()),
            Base::Int8 => Value::Int(i64::from_be_bytes(fixed(bytes).ok_or_else(broken)?)),
            Base::Text => Value::Text(text()?),
            Base::Float8
            | Base::Interval
            | Base::Jsonb
            | Base::Numeric
            | Base::Timestamp
            | Base::Timestamptz
            | Base::Uuid => {
                return Err(SqlError::unknown("a binary parameter of this type"));
            }
        })
    }
}

impl Value {
    /// The value as text, as simple queries return it.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(value) => if *value { "t" } else { "f" }.to_owned(),
            Self::Int(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::Bytes(bytes) => {
                let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
                format!("\\x{}", digits.collect::<String>())
            }
            Self::Time(micros) => {
                let seconds = micros.div_euclid(1_000_000);
                format!("2000-01-01 00:00:00+00 +{seconds}s")
            }
            Self::Decimal(parts) => {
                format!("{}.{:010}", parts.div_euclid(DECIMAL), parts.rem_euclid(DECIMAL))
            }
            Self::Span(micros) => format!("{micros} microseconds"),
            Self::List(list) => {
                let items: Vec<String> = list.iter().map(Self::to_text).collect();
                format!("{{{}}}", items.join(","))
            }
        }
    }

    /// The value's bytes, in the form of `of` if `binary` is set. `None` is NULL.
    pub(super) fn encode(&self, of: Type, binary: bool) -> Option<Bytes> {
        if !binary {
            return (*self != Self::Null).then(|| Bytes::from(self.to_text()));
        }
        Some(match (self, of.base) {
            (Self::Null, _) => return None,
            (Self::List(list), _) => encode_array(list, of.base.one()),
            (Self::Bool(value), _) => Bytes::copy_from_slice(&[u8::from(*value)]),
            (Self::Int(number), Base::Int2) => {
                let number = i16::try_from(*number).expect("checked when it was stored");
                Bytes::copy_from_slice(&number.to_be_bytes())
            }
            (Self::Int(number), Base::Int4) => {
                let number = i32::try_from(*number).expect("checked when it was stored");
                Bytes::copy_from_slice(&number.to_be_bytes())
            }
            (Self::Span(micros), _) => {
                // No span of a story is so long that it would lose anything.
                let seconds = *micros as f64 / 1e6;
                Bytes::copy_from_slice(&seconds.to_be_bytes())
            }
            (Self::Int(number) | Self::Time(number), _) => {
                Bytes::copy_from_slice(&number.to_be_bytes())
            }
            (Self::Bytes(bytes), _) => Bytes::copy_from_slice(bytes),
            (Self::Decimal(_), _) => unreachable!("nobody asks for a number with a point"),
            (Self::Text(text), Base::Jsonb) => Bytes::from(format!("\u{1}{text}")),
            (Self::Text(text), _) => Bytes::copy_from_slice(text.as_bytes()),
        })
    }
}

fn encode_array(list: &[Value], of: Type) -> Bytes {
    let len = |len: usize| i32::try_from(len).expect("short");
    let mut array = BytesMut::new();
    array.put_i32(1);
    array.put_i32(i32::from(list.contains(&Value::Null)));
    array.put_u32(of.oid());
    array.put_i32(len(list.len()));
    array.put_i32(1);
    for value in list {
        match value.encode(of, true) {
            Some(bytes) => {
                array.put_i32(len(bytes.len()));
                array.put_slice(&bytes);
            }
            None => array.put_i32(-1),
        }
    }
    array.freeze()
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// Digits, a point and at most ten more digits.
fn decimal(text: &str) -> Option<i128> {
    let (whole, parts) = text.split_once('.').unwrap_or((text, ""));
    let parts: i128 = format!("{parts:0<10}").parse().ok().filter(|parts| *parts < DECIMAL)?;
    let whole: u64 = whole.parse().ok()?;
    Some(i128::from(whole) * DECIMAL + parts)
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// `array_recv` in the server's arrayfuncs.c. `None` if it is cut short; an empty array may have no
/// dimension.
fn read_array(of: Type, bytes: &[u8]) -> Option<Result<Value, SqlError>> {
    use bytes::Buf as _;
    let mut rest = Bytes::copy_from_slice(bytes);
    let dimensions = rest.try_get_i32().ok()?;
    let (_nulls, _element) = (rest.try_get_i32().ok()?, rest.try_get_i32().ok()?);
    if dimensions == 0 {
        return Some(Ok(Value::List(Vec::new())));
    }
    let (count, _lower) = (rest.try_get_i32().ok()?, rest.try_get_i32().ok()?);
    let mut list = Vec::new();
    for _ in 0..count {
        let Ok(len) = usize::try_from(rest.try_get_i32().ok()?) else {
            list.push(Value::Null);
            continue;
        };
        if rest.len() < len {
            return None;
        }
        match of.read(&rest.split_to(len), true) {
            Ok(value) => list.push(value),
            Err(error) => return Some(Err(error)),
        }
    }
    (dimensions == 1 && rest.is_empty()).then_some(Ok(Value::List(list)))
}

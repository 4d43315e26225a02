//! What a column's type means to us: how to cast to it, how its values compare, how they travel.
use replicator_core::dialect::Product;
use replicator_core::model::catalog::Wire;
use replicator_core::model::ident::Quoted;
use replicator_core::model::key::KeyKind;

/// A type as `pg_type` names it. A domain is told by the type it is built on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TypeFacts {
    /// Schema of the type.
    pub(super) schema: String,
    /// Name of the type.
    pub(super) name: String,
    /// `typtype`: `b` base, `c` composite, `e` enum, `r` range, ….
    pub(super) kind: String,
    /// Schema and name of the elements, if the type is an array.
    pub(super) element: Option<(String, String)>,
    /// Whether the column's type is a domain over this one.
    pub(super) domain: bool,
    /// Whether the column's collation takes different texts for equal.
    pub(super) loose_collation: bool,
}

const BUILT_IN: &str = "pg_catalog";

impl TypeFacts {
    /// The text to cast to.
    ///
    /// Never the name of a domain: an explicit cast to a domain over `varchar(3)` cuts a value off in
    /// silence, just as a cast to `varchar(3)` would. Assigning the base type checks it.
    pub(super) fn cast(&self, product: Product) -> String {
        match &self.element {
            Some((schema, name)) => format!("{}[]", name_of(product, schema, name)),
            None => name_of(product, &self.schema, &self.name),
        }
    }

    /// How values compare. Whatever is not known to have one text for one value is loose.
    pub(super) fn key_kind(&self) -> KeyKind {
        if self.element.is_some() || self.loose_collation {
            return KeyKind::Loose;
        }
        if self.kind == "e" {
            return KeyKind::Exact;
        }
        if self.schema != BUILT_IN {
            return KeyKind::Loose;
        }
        match self.name.as_str() {
            "int2" | "int4" | "int8" | "oid" => KeyKind::Int,
            "numeric" => KeyKind::Numeric,
            "float4" | "float8" => KeyKind::Float,
            "bpchar" => KeyKind::Padded,
            "bit" | "bool" | "bytea" | "char" | "cidr" | "date" | "inet" | "macaddr"
            | "macaddr8" | "name" | "pg_lsn" | "text" | "time" | "timestamp" | "timestamptz"
            | "uuid" | "varbit" | "varchar" => KeyKind::Exact,
            _ => KeyKind::Loose,
        }
    }

    /// How values are sent. Only what is exactly a whole number goes as one: a domain may refuse some
    /// of them, and the server says so best when it gets the text.
    pub(super) fn wire(&self) -> Wire {
        if self.domain || self.schema != BUILT_IN {
            return Wire::Text;
        }
        match self.name.as_str() {
            "int2" => Wire::Int2,
            "int4" => Wire::Int4,
            "int8" => Wire::Int8,
            _ => Wire::Text,
        }
    }
}

/// A type's name as SQL, without length or precision.
fn name_of(product: Product, schema: &str, name: &str) -> String {
    if schema != BUILT_IN {
        return format!("{}.{}", Quoted(schema), Quoted(name));
    }
    match (product, name) {
        // Bare `bit` is bit(1). CockroachDB is asked for types by the names its documentation has, and
        // it takes these two for columns of the other ones: same family, and an assignment still
        // checks the length.
        (Product::Cockroach, "bit") => "varbit".to_owned(),
        (Product::Cockroach, "bpchar") => "text".to_owned(),
        // Here the bare word is the very type and not one with a length.
        (
            Product::Cockroach | Product::Postgres,
            "bool" | "bpchar" | "bytea" | "date" | "float4" | "float8" | "inet" | "int2" | "int4"
            | "int8" | "interval" | "json" | "jsonb" | "name" | "numeric" | "oid" | "text" | "time"
            | "timestamp" | "timestamptz" | "timetz" | "uuid" | "varbit" | "varchar",
        ) => name.to_owned(),
        // Quoted, `"bit"` has no length and `"char"` is the one-byte type.
        (Product::Cockroach | Product::Postgres, _) => Quoted(name).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyKind, Product, TypeFacts, Wire};

    fn built_in(name: &str) -> TypeFacts {
        TypeFacts {
            schema: "pg_catalog".to_owned(),
            name: name.to_owned(),
            kind: "b".to_owned(),
            element: None,
            domain: false,
            loose_collation: false,
        }
    }

    fn mine(name: &str, kind: &str) -> TypeFacts {
        TypeFacts { schema: "My \"s".to_owned(), kind: kind.to_owned(), ..built_in(name) }
    }

    fn array(schema: &str, name: &str) -> TypeFacts {
        let element = Some((schema.to_owned(), name.to_owned()));
        TypeFacts { element, ..built_in("_x") }
    }

    #[test]
    fn casts_carry_no_length() {
        for (facts, postgres, cockroach) in [
            (built_in("int4"), "int4", "int4"),
            (built_in("varchar"), "varchar", "varchar"),
            (built_in("bpchar"), "bpchar", "text"),
            (built_in("char"), "\"char\"", "\"char\""),
            (built_in("bit"), "\"bit\"", "varbit"),
            (built_in("pg_lsn"), "\"pg_lsn\"", "\"pg_lsn\""),
            (mine("Mood", "e"), "\"My \"\"s\".\"Mood\"", "\"My \"\"s\".\"Mood\""),
            (array("pg_catalog", "bpchar"), "bpchar[]", "text[]"),
            (array("S", "Mood"), "\"S\".\"Mood\"[]", "\"S\".\"Mood\"[]"),
        ] {
            assert_eq!(facts.cast(Product::Postgres), postgres);
            assert_eq!(facts.cast(Product::Cockroach), cockroach);
        }
    }

    #[test]
    fn what_may_have_two_texts_for_one_value_is_loose() {
        for name in ["interval", "timetz", "jsonb", "money", "int4range", "point", "tsvector"] {
            assert_eq!(built_in(name).key_kind(), KeyKind::Loose, "{name}");
        }
        assert_eq!(mine("citext", "b").key_kind(), KeyKind::Loose);
        assert_eq!(mine("pair", "c").key_kind(), KeyKind::Loose);
        // A type of one's own may carry the name of a built-in one.
        assert_eq!(mine("int4", "b").key_kind(), KeyKind::Loose);
        assert_eq!(array("pg_catalog", "int4").key_kind(), KeyKind::Loose);
        let loose = TypeFacts { loose_collation: true, ..built_in("text") };
        assert_eq!(loose.key_kind(), KeyKind::Loose);
        assert_eq!(mine("mood", "e").key_kind(), KeyKind::Exact);
        assert_eq!(built_in("bpchar").key_kind(), KeyKind::Padded);
    }

    #[test]
    fn only_plain_whole_numbers_travel_as_numbers() {
        assert_eq!(built_in("int8").wire(), Wire::Int8);
        assert_eq!(built_in("oid").wire(), Wire::Text);
        assert_eq!(TypeFacts { domain: true, ..built_in("int8") }.wire(), Wire::Text);
        assert_eq!(mine("int4", "b").wire(), Wire::Text);
        assert_eq!(array("pg_catalog", "int4").wire(), Wire::Text);
    }
}

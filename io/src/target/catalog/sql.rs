//! The catalog queries, one readable text each.
//!
//! All take `$1` = the schema, compared exactly, and return text, 64-bit numbers and booleans only, so
//! that no type has to be looked up. They take no locks beyond those of reading, and read the system
//! catalogs by their own indexes. Both products' texts of one question return the same columns.

/// Tables and columns. A table without columns is one row of NULLs.
///
/// A domain is followed down to the type it is built on; NOT NULL and DEFAULT of every domain on the
/// way count for the column. `attgenerated` (12) and `collisdeterministic` (12) are read through JSON
/// because PostgreSQL 11 has no such columns, and only where they can matter because that is slow: a
/// generated column has an entry among the defaults, and the default collation is deterministic.
/// (PostgreSQL documentation, "System Catalogs": `pg_attribute`, `pg_type`, `pg_collation`.)
pub(super) const COLUMNS_POSTGRES: &str = "
WITH RECURSIVE domain AS (
    SELECT t.oid AS domain_oid, t.typbasetype AS base_oid, t.typnotnull AS not_null,
           t.typdefault IS NOT NULL AS has_default
      FROM pg_catalog.pg_type t
     WHERE t.typtype = 'd'
    UNION ALL
    SELECT d.domain_oid, t.typbasetype, d.not_null OR t.typnotnull,
           d.has_default OR t.typdefault IS NOT NULL
      FROM domain d
      JOIN pg_catalog.pg_type t ON t.oid = d.base_oid
     WHERE t.typtype = 'd'
)
SELECT c.relname::TEXT AS table_name, a.attnum::INT8 AS position, a.attname::TEXT AS column_name,
       tn.nspname::TEXT AS type_schema, t.typname::TEXT AS type_name, t.typtype::TEXT AS type_kind,
       en.nspname::TEXT AS element_schema, e.typname::TEXT AS element_name,
       d.domain_oid IS NOT NULL AS is_domain,
       a.attnotnull OR COALESCE(d.not_null, false) AS not_null,
       a.atthasdef OR COALESCE(d.has_default, false) AS has_default,
       a.attidentity = 'a' AS identity_always,
       a.attidentity <> '' AS is_identity,
       CASE WHEN a.atthasdef THEN COALESCE(to_jsonb(a) ->> 'attgenerated', '') <> ''
            ELSE false END AS generated,
       CASE WHEN l.oid IS NOT NULL
            THEN COALESCE(to_jsonb(l) ->> 'collisdeterministic', 'true') <> 'true'
            ELSE false END AS loose_collation,
       'visible' AS visibility
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a
    ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN domain d
    ON d.domain_oid = a.atttypid
   AND NOT EXISTS (SELECT 1 FROM domain o WHERE o.domain_oid = d.base_oid)
  LEFT JOIN pg_catalog.pg_type t ON t.oid = COALESCE(d.base_oid, a.atttypid)
  LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
  LEFT JOIN pg_catalog.pg_namespace en ON en.oid = e.typnamespace
  LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation AND l.collname <> 'default'
 WHERE c.relkind IN ('r', 'p') AND n.nspname = $1::TEXT
 ORDER BY c.oid, a.attnum";

/// Tables and columns.
///
/// What PostgreSQL keeps in `pg_attribute`, CockroachDB 22.1 tells in `information_schema` only, in
/// words of its own. `is_hidden` is read through JSON because only CockroachDB has it. Two kinds of
/// hidden columns are the server's own business: the key it makes up for a table without one, and the
/// shard number of a hash-sharded index.
pub(super) const COLUMNS_COCKROACH: &str = "
SELECT c.relname::TEXT AS table_name, a.attnum::INT8 AS position, a.attname::TEXT AS column_name,
       tn.nspname::TEXT AS type_schema, t.typname::TEXT AS type_name, t.typtype::TEXT AS type_kind,
       en.nspname::TEXT AS element_schema, e.typname::TEXT AS element_name,
       false AS is_domain,
       a.attnotnull AS not_null,
       d.adrelid IS NOT NULL AS has_default,
       COALESCE(ic.is_identity = 'YES' AND strpos(upper(ic.identity_generation), 'ALWAYS') > 0, false)
           AS identity_always,
       COALESCE(ic.is_identity = 'YES', false) AS is_identity,
       COALESCE(ic.is_generated IN ('YES', 'ALWAYS'), false) AS generated,
       COALESCE(ic.collation_name, 'C') NOT IN ('C', 'POSIX', 'default') AS loose_collation,
       CASE WHEN COALESCE(to_jsonb(ic) ->> 'is_hidden', 'NO') <> 'YES' THEN 'visible'
            WHEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) = 'unique_rowid()' THEN 'rowid'
            WHEN strpos(a.attname, 'crdb_internal_') = 1 AND strpos(a.attname, '_shard_') > 0
            THEN 'shard'
            ELSE 'visible' END AS visibility
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a
    ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_type e
    ON e.oid = t.typelem AND t.typelem <> 0 AND substr(t.typname, 1, 1) = '_'
  LEFT JOIN pg_catalog.pg_namespace en ON en.oid = e.typnamespace
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN information_schema.columns ic
    ON ic.table_schema = n.nspname AND ic.table_name = c.relname AND ic.column_name = a.attname
 WHERE c.relkind IN ('r', 'p') AND n.nspname = $1::TEXT
 ORDER BY c.oid, a.attnum";

/// Unique indexes and exclusion constraints, one row per key column; `position` is 0 for an expression.
///
/// `usable`: `ON CONFLICT` can name it. That leaves out what is checked at commit only (PostgreSQL
/// documentation, INSERT: deferrable constraints cannot be arbiters), what is still being built, and
/// exclusion constraints, `WITHOUT OVERLAPS` among them.
/// `plain`: rows clash exactly if the columns' values are equal by the columns' own rules. Not so with
/// a predicate, with NULLS NOT DISTINCT (15, read through JSON) or with a collation that takes
/// different texts for equal.
pub(super) const INDEXES_POSTGRES: &str = "
SELECT c.relname::TEXT AS table_name, ix.relname::TEXT AS index_name, x.attnum::INT8 AS position,
       i.indisprimary AS is_primary,
       i.indisvalid AND i.indimmediate AND NOT i.indisexclusion AS usable,
       i.indpred IS NULL AND NOT i.indisexclusion
           AND (i.indisprimary OR COALESCE(to_jsonb(i) ->> 'indnullsnotdistinct', 'false') = 'false')
           AND (l.oid IS NULL OR COALESCE(to_jsonb(l) ->> 'collisdeterministic', 'true') = 'true')
           AS plain
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
  JOIN pg_catalog.pg_class ix ON ix.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL
       unnest(i.indkey, i.indcollation) WITH ORDINALITY AS x(attnum, collation_oid, ord)
  LEFT JOIN pg_catalog.pg_collation l ON l.oid = x.collation_oid AND l.collname <> 'default'
 WHERE (i.indisunique OR i.indisexclusion) AND c.relkind IN ('r', 'p')
   AND x.ord <= i.indnkeyatts AND n.nspname = $1::TEXT
 ORDER BY c.oid, ix.oid, x.ord";

/// Unique indexes, one row per key column; `position` is 0 for an expression. There are no deferrable
/// or exclusion constraints here.
pub(super) const INDEXES_COCKROACH: &str = "
SELECT c.relname::TEXT AS table_name, ix.relname::TEXT AS index_name, x.attnum::INT8 AS position,
       i.indisprimary AS is_primary,
       true AS usable,
       i.indpred IS NULL AS plain
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
  JOIN pg_catalog.pg_class ix ON ix.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS x(attnum, ord)
 WHERE i.indisunique AND c.relkind IN ('r', 'p') AND x.ord <= i.indnkeyatts AND n.nspname = $1::TEXT
 ORDER BY c.oid, ix.oid, x.ord";

/// Foreign keys with both ends in the schema, one row per pair of columns. The text serves both.
///
/// PostgreSQL copies a foreign key to the partitions of either end. The copies are wanted: where a
/// publication names partitions, rows arrive under their names.
pub(super) const FOREIGN_KEYS: &str = "
SELECT cc.relname::TEXT AS child_table, k.conname::TEXT AS constraint_name,
       pc.relname::TEXT AS parent_table, x.child_attnum::INT8 AS child_position,
       x.parent_attnum::INT8 AS parent_position, k.condeferrable AS is_deferrable
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class cc ON cc.oid = k.conrelid
  JOIN pg_catalog.pg_namespace cn ON cn.oid = cc.relnamespace
  JOIN pg_catalog.pg_class pc ON pc.oid = k.confrelid
  JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace
 CROSS JOIN LATERAL
       unnest(k.conkey, k.confkey) WITH ORDINALITY AS x(child_attnum, parent_attnum, ord)
 WHERE k.contype = 'f' AND cn.nspname = $1::TEXT AND pn.nspname = $1::TEXT
 ORDER BY cc.oid, k.oid, x.ord";

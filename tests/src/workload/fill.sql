INSERT INTO region
  SELECT i, 'R' || i, 'Region ' || i FROM generate_series(1, :regions) i;

INSERT INTO account
  SELECT i, 1 + i % :regions, 'account' || i || '@example.org', i * 1.25,
         ARRAY['tag' || i % 7, 'with "quotes", commas'], jsonb_build_object('number', i, 'nothing', NULL),
         timestamptz '2020-02-29 12:00+00' + i * interval '1 hour'
  FROM generate_series(1, :rows / 4) i;

INSERT INTO product
  SELECT i, 1 + i % :regions, 'sku-' || i, i * 0.99, ARRAY[i / 3.0::float8, NULL, 'Infinity'],
         decode(md5(i::text) || '00ff', 'hex')
  FROM generate_series(1, :rows / 8) i;

INSERT INTO orders
  SELECT i, i, CASE WHEN i % 3 = 0 THEN 1 + i % (:rows / 8) END, 'placed',
         timestamptz '2024-01-01 00:00+00' + i * interval '1 second', NULL
  FROM generate_series(1, :rows / 8) i;

INSERT INTO order_line (order_id, line_no, product_id, quantity, price)
  SELECT i, line, 1 + (i + line) % (:rows / 8), line, i * 0.99
  FROM generate_series(1, :rows / 8) i, generate_series(1, 3) line;

INSERT INTO category VALUES (1, NULL, 'everything');

INSERT INTO seat
  SELECT i, 'holder' || i, 0 FROM generate_series(1, :seats) i;

INSERT INTO document
  SELECT i, i, 'Document ' || i, 1,
         (SELECT string_agg(md5(i || '/' || part), ' ') FROM generate_series(1, 300) part)
  FROM generate_series(1, :rows / 80) i;

INSERT INTO journal
  SELECT -1, i, timestamptz '2024-01-01 00:00+00', 'opened' FROM generate_series(1, :rows / 20) i;

INSERT INTO heartbeat VALUES (1, 0, 0, clock_timestamp());

ANALYZE;

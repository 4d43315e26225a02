CREATE TYPE order_status AS ENUM ('placed', 'paid', 'packed', 'shipped', 'returned');

CREATE TABLE region (
  id int PRIMARY KEY,
  code text NOT NULL UNIQUE,
  name text NOT NULL
);

-- orders -> account -> region and orders -> product -> region: a diamond.
CREATE TABLE account (
  id bigint PRIMARY KEY,
  region_id int NOT NULL REFERENCES region,
  email text NOT NULL UNIQUE,
  balance numeric(20, 4) NOT NULL,
  tags text[] NOT NULL,
  profile jsonb,
  opened_at timestamptz NOT NULL
);

CREATE TABLE product (
  id bigint PRIMARY KEY,
  region_id int NOT NULL REFERENCES region,
  sku varchar(40) NOT NULL UNIQUE,
  price numeric(12, 2) NOT NULL,
  weights double precision[],
  picture bytea
);

CREATE TABLE orders (
  id bigint PRIMARY KEY,
  account_id bigint NOT NULL REFERENCES account,
  gift_id bigint REFERENCES product,
  status order_status NOT NULL,
  placed_at timestamptz NOT NULL,
  note text
);

CREATE TABLE order_line (
  order_id bigint NOT NULL REFERENCES orders ON DELETE CASCADE,
  line_no int NOT NULL,
  product_id bigint NOT NULL REFERENCES product,
  quantity int NOT NULL,
  price numeric(12, 2) NOT NULL,
  total numeric,
  PRIMARY KEY (order_id, line_no)
);

-- A line that gets another number takes its shipment along.
CREATE TABLE shipment (
  id bigint PRIMARY KEY,
  order_id bigint NOT NULL,
  line_no int NOT NULL,
  weight real,
  insured boolean NOT NULL,
  sent_on date,
  FOREIGN KEY (order_id, line_no) REFERENCES order_line ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX ON shipment (order_id, line_no);

CREATE TABLE category (
  id bigint PRIMARY KEY,
  parent_id bigint REFERENCES category,
  name text NOT NULL,
  UNIQUE (parent_id, name)
);
CREATE INDEX ON category (parent_id);
-- The stream then has the whole old row of each update and delete, not only its key.
ALTER TABLE category REPLICA IDENTITY FULL;

-- Holders change seats, so the unique value wanders from row to row.
CREATE TABLE seat (
  id int PRIMARY KEY,
  holder text UNIQUE,
  taken int NOT NULL
);

-- The body is stored out of line, and the stream leaves it out of updates that do not touch it.
CREATE TABLE document (
  id bigint PRIMARY KEY,
  account_id bigint REFERENCES account,
  title text NOT NULL,
  revision int NOT NULL,
  body text
);
ALTER TABLE document ALTER body SET STORAGE EXTERNAL;

-- Written and cleared by transactions of many thousand rows.
CREATE TABLE ledger (
  batch int,
  entry int,
  amount numeric(18, 6) NOT NULL,
  memo text,
  PRIMARY KEY (batch, entry)
);

-- Only ever inserted into, so an update that shows up in the target is an insert that came twice.
CREATE TABLE journal (
  writer int,
  entry bigint,
  entered_at timestamptz NOT NULL,
  what text NOT NULL,
  PRIMARY KEY (writer, entry)
);

CREATE TABLE heartbeat (
  id int PRIMARY KEY,
  beat bigint NOT NULL,
  rows bigint NOT NULL,
  beaten_at timestamptz NOT NULL
);

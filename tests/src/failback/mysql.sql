CREATE TABLE region (
  id INT PRIMARY KEY,
  code VARCHAR(40) NOT NULL UNIQUE,
  name TEXT NOT NULL
);

CREATE TABLE account (
  id BIGINT PRIMARY KEY,
  region_id INT NOT NULL,
  email VARCHAR(200) NOT NULL,
  balance DECIMAL(20, 4) NOT NULL,
  tags JSON NOT NULL,
  profile JSON,
  opened_at DATETIME(6) NOT NULL,
  FOREIGN KEY (region_id) REFERENCES region (id)
);

CREATE TABLE product (
  id BIGINT PRIMARY KEY,
  region_id INT NOT NULL,
  sku VARCHAR(40) NOT NULL UNIQUE,
  price DECIMAL(12, 2) NOT NULL,
  weights JSON,
  picture BLOB,
  FOREIGN KEY (region_id) REFERENCES region (id)
);

CREATE TABLE orders (
  id BIGINT PRIMARY KEY,
  account_id BIGINT NOT NULL,
  gift_id BIGINT,
  status ENUM ('placed', 'paid', 'packed', 'shipped', 'returned') NOT NULL,
  placed_at DATETIME(6) NOT NULL,
  note TEXT,
  FOREIGN KEY (account_id) REFERENCES account (id),
  FOREIGN KEY (gift_id) REFERENCES product (id)
);

CREATE TABLE order_line (
  order_id BIGINT NOT NULL,
  line_no INT NOT NULL,
  product_id BIGINT NOT NULL,
  quantity INT NOT NULL,
  price DECIMAL(12, 2) NOT NULL,
  total DECIMAL(30, 2) AS (quantity * price) STORED,
  PRIMARY KEY (order_id, line_no),
  FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE,
  FOREIGN KEY (product_id) REFERENCES product (id)
);

CREATE TABLE shipment (
  id BIGINT PRIMARY KEY,
  order_id BIGINT NOT NULL,
  line_no INT NOT NULL,
  weight DOUBLE,
  insured BOOLEAN NOT NULL,
  sent_on DATE,
  FOREIGN KEY (order_id, line_no) REFERENCES order_line (order_id, line_no)
    ON UPDATE CASCADE ON DELETE CASCADE
);

-- Without a foreign key to itself: families go in one transaction, and MySQL looks at each row by itself.
CREATE TABLE category (
  id BIGINT PRIMARY KEY,
  parent_id BIGINT,
  name VARCHAR(100) NOT NULL,
  UNIQUE (parent_id, name)
);

CREATE TABLE seat (
  id INT PRIMARY KEY,
  holder VARCHAR(100) UNIQUE,
  taken INT NOT NULL
);

CREATE TABLE document (
  id BIGINT PRIMARY KEY,
  account_id BIGINT,
  title TEXT NOT NULL,
  revision INT NOT NULL,
  body LONGTEXT,
  FOREIGN KEY (account_id) REFERENCES account (id)
);

CREATE TABLE ledger (
  batch INT,
  entry INT,
  amount DECIMAL(18, 6) NOT NULL,
  memo TEXT,
  PRIMARY KEY (batch, entry)
);

CREATE TABLE journal (
  writer INT,
  entry BIGINT,
  entered_at DATETIME(6) NOT NULL,
  what TEXT NOT NULL,
  PRIMARY KEY (writer, entry)
);

CREATE TABLE heartbeat (
  id INT PRIMARY KEY,
  beat BIGINT NOT NULL,
  `rows` BIGINT NOT NULL,
  beaten_at DATETIME(6) NOT NULL
);

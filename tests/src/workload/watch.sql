-- In a schema of its own, which is not compared.
CREATE SCHEMA watch;
CREATE TABLE watch.repeat (writer int, entry bigint);

CREATE FUNCTION watch.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO watch.repeat VALUES (NEW.writer, NEW.entry);
  RETURN NEW;
END
$$;

CREATE TRIGGER repeated BEFORE UPDATE ON journal FOR EACH ROW EXECUTE PROCEDURE watch.note();
-- Also if whoever writes says that it replicates.
ALTER TABLE journal ENABLE ALWAYS TRIGGER repeated;

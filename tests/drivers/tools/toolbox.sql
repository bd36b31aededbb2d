-- What the tools dump, restore and import: one of each kind of thing, and values that are hard to quote.
DROP TABLE IF EXISTS things, counted;
CREATE TABLE things (
  id INT PRIMARY KEY AUTO_INCREMENT,
  name VARCHAR(40) CHARACTER SET utf8mb4 NOT NULL,
  bytes VARBINARY(16),
  price DECIMAL(12,2),
  at DATETIME(6),
  kind ENUM('a','b') DEFAULT 'a',
  more JSON,
  twice INT GENERATED ALWAYS AS (id_of * 2) VIRTUAL,
  id_of INT,
  KEY (name)
) COMMENT = 'it''s a "comment"; with a semicolon';
INSERT INTO things (name, bytes, price, at, kind, more, id_of) VALUES
  ('plain', x'00010203', 12.50, '2020-02-29 23:59:59.123456', 'a', '{"a": [1, 2]}', 1),
  ('it''s; "quoted" \\ and `ticked` \n 🐎', x'275C00FF', NULL, NULL, 'b', NULL, NULL),
  ('-- no comment /* nor this */', NULL, -0.01, '1999-12-31', 'a', '"x"', 3);
CREATE TABLE counted (a INT, b VARCHAR(20));
INSERT INTO counted SELECT id, name FROM (SELECT 1 AS id, 'one' AS name UNION ALL SELECT 2, 'two') AS both_of_them;
CREATE OR REPLACE VIEW seen AS SELECT id, name FROM things WHERE id > 1;
DROP PROCEDURE IF EXISTS count_things;
DROP FUNCTION IF EXISTS twice_of;
DELIMITER //
CREATE PROCEDURE count_things(OUT n INT)
BEGIN
  SELECT COUNT(*) INTO n FROM things;
  IF n > 0 THEN SELECT n AS there; END IF;
END//
CREATE FUNCTION twice_of(i INT) RETURNS INT DETERMINISTIC
BEGIN
  RETURN i * 2;
END//
CREATE TRIGGER before_counted BEFORE INSERT ON counted FOR EACH ROW
BEGIN
  SET NEW.b = CONCAT(NEW.b, ';');
END//
DELIMITER ;
CALL count_things(@n);
SELECT @n, twice_of(@n), (SELECT COUNT(*) FROM seen) AS seen;

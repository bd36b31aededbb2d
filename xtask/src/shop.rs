//! The sample shop: customers with personal data and cards, orders, payments. The same rows every time, so
//! that a test can know every raw value without asking the database.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

pub const CUSTOMERS: u32 = 2_000;
pub const ORDERS: u32 = 6_000;
pub const PAYMENTS: u32 = 12_000;

/// One customer's labelled values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    pub id: u32,
    pub name: String,
    pub email: String,
    pub phone: String,
    pub card_number: String,
    pub ssn: String,
    pub notes: String,
    /// The card number inside `notes`, where there is one.
    pub noted_card: Option<String>,
}

/// Customer number `id`, counted from 1.
pub fn customer(id: u32) -> Customer {
    const FIRST: [&str; 8] = ["Ada", "Ben", "Chi", "Dora", "Emil", "Fay", "Gus", "Hana"];
    const LAST: [&str; 8] = ["Abara", "Brown", "Costa", "Diaz", "Evans", "Fuchs", "Gray", "Hara"];
    let first = FIRST[id as usize % 8];
    let last = LAST[id as usize / 8 % 8];
    let mix = u64::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let noted_card = (id % 10 == 3).then(|| luhn(&format!("55{:013}", mix % 10_000_000_000_000)));
    let notes = match &noted_card {
        Some(card) => {
            format!("Called on Monday, asked to charge card {card} instead of the old one.")
        }
        None => format!("Prefers parcel box {}; no calls before noon.", id % 97),
    };
    Customer {
        id,
        name: format!("{first} {last}"),
        email: format!("{}.{}{id}@mail.example", first.to_lowercase(), last.to_lowercase()),
        phone: format!("+1-555-{:03}-{:04}", mix % 900 + 100, id + 2_000),
        card_number: luhn(&format!("4{:014}", mix % 100_000_000_000_000)),
        ssn: format!("{:03}-{:02}-{:04}", id % 600 + 100, mix % 89 + 10, id + 1_000),
        notes,
        noted_card,
    }
}

/// Every raw value that a governed agent must never see, of all customers.
pub fn raw_values() -> Vec<String> {
    (1..=CUSTOMERS)
        .map(customer)
        .flat_map(|c| {
            [Some(c.email), Some(c.phone), Some(c.card_number), Some(c.ssn), c.noted_card]
        })
        .flatten()
        .collect()
}

/// Writes the shop as a file of SQL in `dir`.
pub fn write_sql(dir: &Path) -> Result<PathBuf> {
    let mut sql = String::from(SCHEMA);
    insert(&mut sql, "customers", CUSTOMERS, |id| {
        let c = customer(id);
        format!(
            "({id},'{}','{}','{}','{}','{}','{}',{})",
            c.name,
            c.email,
            c.phone,
            c.card_number,
            c.ssn,
            c.notes,
            id % 5 + 1
        )
    });
    insert(&mut sql, "orders", ORDERS, |id| {
        let day = id % 28 + 1;
        let (customer, cents) = (id * 7 % CUSTOMERS + 1, id * 37 % 90_000 + 100);
        format!("({id},{customer},'2026-0{}-{day:02}','shipped',{cents})", id % 9 + 1)
    });
    insert(&mut sql, "payments", PAYMENTS, |id| {
        let order = id % ORDERS + 1;
        format!(
            "({id},{order},{},'{}')",
            id * 31 % 50_000 + 50,
            ["card", "transfer"][id as usize % 2]
        )
    });
    let file = dir.join("shop.sql");
    fs::write(&file, sql)?;
    Ok(file)
}

const SCHEMA: &str = "\
DROP DATABASE IF EXISTS shop;
CREATE DATABASE shop CHARACTER SET utf8mb4;
USE shop;
CREATE TABLE customers (
  id INT PRIMARY KEY, name VARCHAR(80) NOT NULL, email VARCHAR(120) NOT NULL, phone VARCHAR(32) NOT NULL,
  card_number CHAR(19) NOT NULL, ssn CHAR(11) NOT NULL, notes TEXT NOT NULL, tier TINYINT NOT NULL);
CREATE TABLE orders (
  id INT PRIMARY KEY, customer_id INT NOT NULL, ordered_on DATE NOT NULL, state VARCHAR(16) NOT NULL,
  total_cents INT NOT NULL, KEY (customer_id));
CREATE TABLE payments (
  id INT PRIMARY KEY, order_id INT NOT NULL, amount_cents INT NOT NULL, method VARCHAR(16) NOT NULL, KEY (order_id));
CREATE VIEW contacts AS SELECT id, name, email AS mail FROM customers;
";

fn insert(sql: &mut String, table: &str, rows: u32, row: impl Fn(u32) -> String) {
    for id in 1..=rows {
        let start = id % 500 == 1;
        let end = id % 500 == 0 || id == rows;
        if start {
            let _ = writeln!(sql, "INSERT INTO {table} VALUES");
        }
        let _ = writeln!(sql, "{}{}", row(id), if end { ";" } else { "," });
    }
}

/// `digits` and the check digit that makes a card number of them.
fn luhn(digits: &str) -> String {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, byte)| {
            let digit = u32::from(byte - b'0');
            let doubled = if at % 2 == 0 { digit * 2 } else { digit };
            if doubled > 9 { doubled - 9 } else { doubled }
        })
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digit() {
        assert_eq!(luhn("453201511283036"), "4532015112830366");
    }

    #[test]
    fn values_are_unique() {
        let mut values = raw_values();
        let all = values.len();
        values.sort();
        values.dedup();
        assert_eq!(values.len(), all);
    }
}

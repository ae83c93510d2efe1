//! A picture of the screen, for the README.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use super::input::Input;
use super::tests::{after, drawn, keep_text};

/// Size of a cell, and of the edge.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 18.0;
const EDGE: f64 = 12.0;

/// Classes of text, with the colours of a light and of a dark background.
const COLOURS: [(&str, &str, &str); 7] = [
    ("text", "#24292f", "#d7dae0"),
    ("back", "#ffffff", "#16181d"),
    ("red", "#cf222e", "#ff6b6b"),
    ("green", "#1a7f37", "#6ccf7c"),
    ("magenta", "#9a3fb8", "#d38bea"),
    ("cyan", "#0b7285", "#5cc8d7"),
    ("frame", "#d0d7de", "#30343c"),
];

fn class(color: Color) -> &'static str {
    match color {
        Color::Red => "red",
        Color::Green => "green",
        Color::Magenta => "magenta",
        Color::Cyan => "cyan",
        _ => "text",
    }
}

fn style(dark: bool) -> String {
    let colour = |(name, light, at_night): &(&str, &str, &str)| {
        format!(".{name}{{fill:{}}}", if dark { at_night } else { light })
    };
    COLOURS.iter().map(colour).collect()
}

/// A block element as a rectangle, in parts of a cell: a font may leave gaps between them.
fn block(c: char) -> Option<[f64; 4]> {
    let eighth = |first: char| f64::from(u32::from(c) - u32::from(first) + 1) / 8.0;
    Some(match c {
        '▁'..='█' => [0.0, 1.0 - eighth('▁'), 1.0, eighth('▁')],
        '▉'..='▏' => [0.0, 0.0, 1.0 - eighth('▉'), 1.0],
        _ => return None,
    })
}

/// How a cell looks.
fn look(cell: &Cell) -> (&'static str, Modifier) {
    (class(cell.fg), cell.modifier)
}

/// A picture of a buffer.
fn svg(buffer: &Buffer) -> String {
    let (columns, rows) = (buffer.area.width, buffer.area.height);
    let (width, height) =
        (f64::from(columns) * WIDTH + 2.0 * EDGE, f64::from(rows) * HEIGHT + 2.0 * EDGE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\">\n<style>\ntext{{font:14px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,\
         monospace}}\n.bold{{font-weight:bold}}.dim{{opacity:.65}}\n{}\n@media \
         (prefers-color-scheme:dark){{{}}}\n</style>\n<rect class=\"frame\" width=\"100%\" height=\"100%\" rx=\"8\"/>\n\
         <rect class=\"back\" x=\"1\" y=\"1\" width=\"{:.0}\" height=\"{:.0}\" rx=\"7\"/>\n",
        style(false),
        style(true),
        width - 2.0,
        height - 2.0
    );
    for y in 0..rows {
        let mut x = 0;
        while x < columns {
            let first = &buffer[(x, y)];
            let mut text = String::new();
            let begin = x;
            while x < columns && look(&buffer[(x, y)]) == look(first) {
                text.push_str(buffer[(x, y)].symbol());
                x += 1;
            }
            draw(&mut svg, &text, look(first), begin, y, x - begin);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Draws cells that look the same.
fn draw(
    svg: &mut String,
    text: &str,
    (class, modifier): (&str, Modifier),
    x: u16,
    y: u16,
    cells: u16,
) {
    let (left, top) = (EDGE + f64::from(x) * WIDTH, EDGE + f64::from(y) * HEIGHT);
    let mut class = class.to_owned();
    if modifier.contains(Modifier::REVERSED) {
        // A little more, so that there is no line between two of them.
        let width = f64::from(cells) * WIDTH + 0.3;
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.0}\" width=\"{width:.1}\" height=\"{HEIGHT}\"/>"
        );
        class = "back".to_owned();
    }
    if modifier.contains(Modifier::BOLD) {
        class += " bold";
    }
    if modifier.contains(Modifier::DIM) {
        class += " dim";
    }
    let mut words = String::new();
    for (at, c) in text.chars().enumerate() {
        match block(c) {
            Some([x, y, width, height]) => {
                let x = left + (at as f64 + x) * WIDTH;
                // A bar does not touch the one below it.
                let (y, height) = (top + 2.0 + y * (HEIGHT - 4.0), height * (HEIGHT - 4.0));
                let width = width * WIDTH;
                let _ = writeln!(
                    svg,
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
                );
                words.push(' ');
            }
            None => words.push(c),
        }
    }
    // Where there are several spaces, fonts and readers differ.
    let mut at = 0;
    for part in words.split("  ") {
        let begin = at + part.len() - part.trim_start().len();
        at += part.chars().count() + 2;
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        let (x, y) = (left + begin as f64 * WIDTH, top + HEIGHT * 0.74);
        let length = part.chars().count() as f64 * WIDTH;
        let part = part.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            svg,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{length:.1}\">{part}</text>"
        );
    }
}

#[test]
fn the_picture_of_the_readme() {
    let mut state = after(119);
    state.input(Input::Down);
    keep_text("doc/screen.svg", &svg(&drawn(&mut state, 120, 18)));
}

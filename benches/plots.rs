//! Draws `docs/images/*.svg` from the figures beside them.
//!
//! ```text
//! cargo bench --bench growth -- --csv docs/images/growth.csv
//! cargo bench --bench bus -- flow --csv docs/images/throughput.csv
//! cargo bench --bench plots
//! ```
//!
//! Benchmarks add to these files; of a figure that is there twice the later is drawn.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use plotters::coord::Shift;
use plotters::coord::ranged1d::Ranged;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::ChartBuilder;
use plotters::prelude::Circle;
use plotters::prelude::Color as _;
use plotters::prelude::DrawingArea;
use plotters::prelude::IntoDrawingArea as _;
use plotters::prelude::IntoLogRange as _;
use plotters::prelude::LineSeries;
use plotters::prelude::PathElement;
use plotters::prelude::RGBColor;
use plotters::prelude::Rectangle;
use plotters::prelude::SVGBackend;
use plotters::prelude::SeriesLabelPosition;
use plotters::prelude::WHITE;

type Error = Box<dyn std::error::Error>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Dark enough on white, and apart for those who see no red or green.
const COLOURS: [RGBColor; 3] = [
    RGBColor(0x00, 0x52, 0x9b),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x7a, 0x5a),
];
const GREY: RGBColor = RGBColor(0x55, 0x55, 0x55);
const FONT: &str = "sans-serif";

/// What grows, a panel each.
const GROWING: [&str; 5] = [
    "delegations",
    "capabilities",
    "senders",
    "agents and revocations",
    "subscriptions",
];

/// The clients whose throughput is drawn, and messages on their way.
const CLIENTS: [&str; 3] = ["async_nats", "trustmesh", "signed one by one"];
const WINDOW: &str = "2048";

fn main() -> ExitCode {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    match growth(&images).and_then(|()| throughput(&images)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench plots: {error}");
            ExitCode::FAILURE
        }
    }
}

fn growth(images: &Path) -> Result<(), Error> {
    let figures = read(&images.join("growth.csv"))?;
    let path = images.join("growth.svg");
    let root = SVGBackend::new(&path, (960, 620)).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled(
        "Cost of a decision, beside the smallest size (grey: 10 % more and less)",
        (FONT, 23),
    )?;
    for (what, panel) in GROWING.into_iter().zip(root.split_evenly((2, 3))) {
        let lines = lines(figures.iter().filter(|figure| figure.what == what));
        panel_of(&panel, what, &lines, 0.0..1.1 * highest(&lines).max(1.4))?;
    }
    root.present()?;
    Ok(())
}

fn throughput(images: &Path) -> Result<(), Error> {
    let figures = read(&images.join("throughput.csv"))?;
    let path = images.join("throughput.svg");
    let root = SVGBackend::new(&path, (760, 440)).into_drawing_area();
    root.fill(&WHITE)?;
    let figures: Vec<Figure> = CLIENTS
        .iter()
        .flat_map(|client| {
            let of = |figure: &&Figure| figure.what == *client && figure.how == WINDOW;
            figures.iter().filter(of).map(|figure| Figure {
                how: figure.what.clone(),
                ..figure.clone()
            })
        })
        .collect();
    let lines = lines(figures.iter());
    let title = "Messages a second by payload in bytes, 2,048 on their way";
    panel_of(&root, title, &lines, (5_000.0..2_000_000.0).log_scale())?;
    root.present()?;
    Ok(())
}

/// One line of a file.
#[derive(Clone)]
struct Figure {
    what: String,
    how: String,
    size: u64,
    /// The middle and what is below and above it.
    values: [f64; 3],
}

/// What is drawn in one colour.
struct Line {
    name: String,
    figures: Vec<Figure>,
}

fn read(path: &Path) -> Result<Vec<Figure>, Error> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let figures = text.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        let [what, how, size, middle, low, high] = fields[..] else {
            return Err(format!("{}: {line}", path.display()).into());
        };
        Ok(Figure {
            what: what.to_owned(),
            how: how.to_owned(),
            size: size.parse()?,
            values: [middle.parse()?, low.parse()?, high.parse()?],
        })
    });
    figures.collect()
}

/// Lines in the order they are met, with ascending sizes.
fn lines<'a>(figures: impl Iterator<Item = &'a Figure>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for figure in figures {
        let index = lines.iter().position(|line| line.name == figure.how);
        let index = index.unwrap_or_else(|| {
            lines.push(Line {
                name: figure.how.clone(),
                figures: Vec::new(),
            });
            lines.len() - 1
        });
        let figures = &mut lines[index].figures;
        figures.retain(|earlier| earlier.size != figure.size);
        figures.push(figure.clone());
        figures.sort_by_key(|figure| figure.size);
    }
    lines
}

fn highest(lines: &[Line]) -> f64 {
    let figures = lines.iter().flat_map(|line| &line.figures);
    figures.map(|figure| figure.values[2]).fold(0.0, f64::max)
}

/// Draws lines over sizes that stand at equal distances.
fn panel_of<Y>(
    area: &Area<'_>,
    title: &str,
    lines: &[Line],
    height: impl plotters::coord::ranged1d::AsRangedCoord<CoordDescType = Y, Value = f64>,
) -> Result<(), Error>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let first = lines
        .first()
        .ok_or_else(|| format!("no figures: {title}"))?;
    let sizes: Vec<u64> = first.figures.iter().map(|figure| figure.size).collect();
    let count = i32::try_from(sizes.len())?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 19))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(80)
        .build_cartesian_2d(-1..count, height)?;
    let size_at = |index: &i32| {
        let size = usize::try_from(*index).ok().and_then(|at| sizes.get(at));
        size.map_or_else(String::new, |size| thousands(*size))
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_labels(sizes.len() + 2)
        .x_label_formatter(&size_at)
        .y_labels(6)
        .y_label_formatter(&|value| match *value {
            value if value >= 1_000.0 => thousands(value as u64),
            value => format!("{value:.1}"),
        })
        .label_style((FONT, 16))
        .draw()?;
    let band = Rectangle::new([(-1, 0.9), (count, 1.1)], GREY.mix(0.2).filled());
    if highest(lines) < 1_000.0 {
        chart.draw_series([band])?;
    }
    for (line, colour) in lines.iter().zip(COLOURS) {
        let place = |figure: &Figure| sizes.iter().position(|size| *size == figure.size);
        let placed: Vec<(i32, [f64; 3])> = line
            .figures
            .iter()
            .filter_map(|figure| Some((place(figure)? as i32, figure.values)))
            .collect();
        let middles = placed.iter().map(|(at, [middle, ..])| (*at, *middle));
        chart
            .draw_series(LineSeries::new(middles.clone(), colour.stroke_width(2)))?
            .label(line.name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
        chart.draw_series(middles.map(|at| Circle::new(at, 3, colour.filled())))?;
        chart.draw_series(placed.iter().map(|(at, [_, low, high])| {
            PathElement::new([(*at, *low), (*at, *high)], colour.stroke_width(1))
        }))?;
    }
    // Where no line is: ratios begin at the left at 1, far below the highest or far above 0.
    let corner = match highest(lines) {
        high if high >= 1_000.0 => SeriesLabelPosition::UpperRight,
        high if high >= 3.0 => SeriesLabelPosition::UpperLeft,
        _ => SeriesLabelPosition::LowerLeft,
    };
    chart
        .configure_series_labels()
        .position(corner)
        .background_style(WHITE.mix(0.8))
        .border_style(GREY.mix(0.4))
        .label_font((FONT, 16))
        .draw()?;
    Ok(())
}

fn thousands(number: u64) -> String {
    if number >= 10_000 && number.is_multiple_of(1_000) {
        return format!("{}k", number / 1_000);
    }
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

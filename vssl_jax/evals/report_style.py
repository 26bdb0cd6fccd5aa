"""The report's style. Colors are variables, set once for light and once for dark; everything else refers to them.

The eight class colors keep at least 3:1 contrast with the background in either mode; beyond eight classes the marks' shapes tell them
apart.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --bg: #fff; --fg: #1c2024; --dim: #5c6570; --line: #d9dee4; --card: #f5f7f9; --accent: #0b66c3; --good: #1a7f4b; --bad: #c0362c;
  --s0: #0b66c3; --s1: #c2620a; --s2: #16804f; --s3: #c03a8b; --s4: #7a5ad1; --s5: #806500; --s6: #007f91; --s7: #c0362c; --rest: #848d97;
}
@media (prefers-color-scheme: dark) {
  :root {
    --bg: #14171a; --fg: #e6e9ec; --dim: #9aa4af; --line: #343a41; --card: #1d2125; --accent: #62aef7; --good: #5cc98f; --bad: #ff8a7d;
    --s0: #62aef7; --s1: #f5a04c; --s2: #5cc98f; --s3: #f08bc5; --s4: #b39df5; --s5: #d9bd4a; --s6: #4fd0e0; --s7: #ff8a7d; --rest: #7b858f;
  }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 70rem; background: var(--bg); color: var(--fg);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; margin: 0 0 .25rem }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line) }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem }
p { margin: .5rem 0; max-width: 46rem }
a { color: var(--accent) }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: .75rem 0 }
figure { margin: 0; min-width: 0 }
figcaption { margin-top: .25rem }
.dim, figcaption, nav, dt { color: var(--dim); font-size: .875rem }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
details { margin: .75rem 0 }
summary { cursor: pointer }
pre { overflow: auto; max-height: 32rem; padding: .8rem; border-radius: .5rem; background: var(--card); font-size: .8rem;
  overflow-wrap: normal }

dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 9.75rem), 1fr)); gap: .75rem; margin: 1rem 0 }
dl div { background: var(--card); border-radius: .5rem; padding: .6rem .8rem }
dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums }

.scroll { overflow-x: auto; max-width: 100% }
table { border-collapse: collapse; font-size: .9rem; overflow-wrap: normal }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap }
thead th { color: var(--dim); font-weight: 600 }
table .n { text-align: right; font-variant-numeric: tabular-nums }

.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1.25rem }
.charts h3 { margin: 0 }
svg.chart { display: block; width: 100%; height: auto }
svg text { fill: var(--dim); font-size: 11px; font-variant-numeric: tabular-nums }
.axis, .grid { fill: none; stroke: var(--line) }
.line { fill: none; stroke: var(--accent); stroke-width: 1.75; stroke-linejoin: round }
.raw { opacity: .35; stroke-width: 1 }
.dot { fill: var(--accent) }
.bad { stroke: var(--bad); stroke-width: 1.5 }

.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1.25rem }
.clips img { display: block; width: 100%; height: auto; border-radius: .25rem }
.small img { image-rendering: pixelated }
.names { display: grid; grid-template-columns: repeat(var(--n), minmax(0, 1fr)); text-align: center; font-size: .8rem }

.map { display: grid; grid-template-columns: minmax(0, 34rem) minmax(0, 1fr); gap: 1.25rem; align-items: start }
.map svg.chart { background: var(--card); border-radius: .5rem }
.s0 { fill: var(--s0) } .s1 { fill: var(--s1) } .s2 { fill: var(--s2) } .s3 { fill: var(--s3) }
.s4 { fill: var(--s4) } .s5 { fill: var(--s5) } .s6 { fill: var(--s6) } .s7 { fill: var(--s7) } .rest { fill: var(--rest) }
.map .chart * { fill-opacity: .85 }
.legend { list-style: none; margin: 0; padding: 0; display: grid; gap: .2rem .75rem; font-size: .875rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 9rem), 1fr)) }
.legend li { display: flex; gap: .4rem }
.key { flex: none; margin-top: .3rem }

.neighbors { display: grid; grid-template-columns: repeat(var(--n), minmax(0, 7rem)); gap: .6rem; margin-bottom: 1.1rem }
.neighbors img { display: block; width: 100%; height: auto; border-radius: .25rem; border: 3px solid var(--line) }
.neighbors .same img { border-color: var(--good) }
.neighbors .other img { border-color: var(--bad) }
.neighbors figcaption { line-height: 1.25; font-size: .8rem }

.confusion th, .confusion td { padding: .25rem .4rem; border: 1px solid var(--bg); font-size: .8rem }
.confusion td { text-align: center; min-width: 2.2rem }
.confusion tbody td { background: color-mix(in srgb, var(--accent) calc(var(--p) * .65%), var(--card)) }
.confusion thead th { vertical-align: bottom }
.confusion thead span { writing-mode: vertical-rl; transform: rotate(180deg) }

@media (max-width: 44rem) {
  .map { grid-template-columns: minmax(0, 1fr) }
  .neighbors { grid-template-columns: repeat(3, minmax(0, 1fr)) }
}
"""

"use strict";
// Plain JavaScript: libraries that draw and play sound in a page take one sound and draw its
// waveform, or compute its spectrogram; here are three sounds on one clock, and masks.
(() => {
const settings = JSON.parse(document.getElementById("settings").textContent);
const views = new Map();
let audio = null;    // one AudioContext, made by the first key or click that plays
let current = null;  // the recording that keys act on

// --- numbers and bytes ---------------------------------------------------------------

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const decibel = (byte) => (byte ? settings.levelFloorDb + byte / settings.levelsPerDb : -Infinity);
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;
const minus = (value) => (Number(value.toFixed(1)) || 0).toFixed(1).replace("-", "−");  // 0, not −0

function bytes(text) {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

async function inflate(text) {
  const packed = new Blob([bytes(text)]).stream();
  const unpacked = packed.pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

const soundColours = bytes(settings.soundColours);
const maskColours = bytes(settings.maskColours);

// --- colours, as pixels are stored: alpha, blue, green, red --------------------------------

const pixel = (r, g, b) => ((255 << 24) | (Math.round(b) << 16) | (Math.round(g) << 8) | Math.round(r)) >>> 0;

const maskTable = Uint32Array.from({ length: settings.maskSteps + 1 }, (_, step) => pixel(...maskColours.subarray(3 * step, 3 * step + 3)));

function fadedColours(fade) {  // of each level at each step of the mask: what is left out is grey and dark
  const steps = settings.maskSteps + 1;
  const table = new Uint32Array((soundColours.length / 3) * steps);
  for (let level = 0; level < soundColours.length / 3; level++) {
    const [r, g, b] = soundColours.subarray(3 * level, 3 * level + 3);
    const light = 0.3 * r + 0.59 * g + 0.11 * b;
    for (let step = 0; step < steps; step++) {
      const left = fade * (1 - step / settings.maskSteps);
      const grey = 0.45 * light * (1 - 0.8 * left);
      table[level * steps + step] = pixel(r + left * (grey - r), g + left * (grey - g), b + left * (grey - b));
    }
  }
  return table;
}

// --- frequency axes: place in [0, 1] from the lowest to the highest frequency ---------

const mel = (hertz) => Math.log1p(hertz / settings.melBreakHz);
const LOWEST_LOG_HZ = 60;

function axis(kind, nyquist) {
  if (kind === "mel") {
    return {
      low: 0,
      place: (hertz) => mel(hertz) / mel(nyquist),
      hertz: (place) => settings.melBreakHz * Math.expm1(place * mel(nyquist)),
    };
  }
  const span = Math.log(nyquist / LOWEST_LOG_HZ);
  return {
    low: LOWEST_LOG_HZ,
    place: (hertz) => Math.log(Math.max(hertz, 1) / LOWEST_LOG_HZ) / span,
    hertz: (place) => LOWEST_LOG_HZ * Math.exp(place * span),
  };
}

const TICKS_HZ = [100, 250, 500, 1000, 2000, 4000, 8000, 16000, 32000];

// --- sound: decoded and in step, or streamed from files --------------------------------

function context(rate) {
  if (!audio) {
    const Kind = window.AudioContext || window.webkitAudioContext;
    try { audio = new Kind({ sampleRate: rate }); } catch { audio = new Kind(); }
  }
  audio.resume();
  return audio;
}

class Decoded {  // all three sounds run at once, and one of them is let through
  constructor(data) {
    this.data = data;
    this.raises = true;
    this.kept = new Map();
    this.running = null;
  }

  async decode(flac) {
    const buffer = await context(this.data.sampleRate).decodeAudioData(bytes(flac).buffer);
    const samples = buffer.getChannelData(0);
    if (this.data.scale !== 1) for (let i = 0; i < samples.length; i++) samples[i] *= this.data.scale;
    return buffer;
  }

  async prepare(prompt) {
    this.input ??= this.decode(this.data.sound);
    const input = await this.input;
    if (!this.kept.has(prompt)) {
      const flac = this.data.prompts[prompt].sound;
      this.kept.set(prompt, flac ? this.parts(input, flac) : { input });
    }
    this.sounds = await this.kept.get(prompt);
  }

  async parts(input, flac) {
    const explanation = await this.decode(flac);
    const residual = audio.createBuffer(1, input.length, input.sampleRate);
    const [all, kept, left] = [input, explanation, residual].map((one) => one.getChannelData(0));
    for (let i = 0; i < left.length; i++) left[i] = all[i] - (kept[i] || 0);
    return { input, explanation, residual };
  }

  start(at) {
    this.stop();
    const when = audio.currentTime + 0.01;
    const nodes = Object.entries(this.sounds).map(([name, buffer]) => {
      const source = audio.createBufferSource();
      const gain = audio.createGain();
      source.buffer = buffer;
      source.connect(gain).connect(audio.destination);
      gain.gain.value = name === this.name ? this.level : 0;
      source.start(when, at);
      return { name, source, gain };
    });
    this.running = { nodes, zero: when - at };
  }

  stop() {
    if (this.running) for (const node of this.running.nodes) node.source.stop();
    this.running = null;
  }

  choose(name, level) {
    this.name = name;
    this.level = level;
    if (!this.running) return;
    for (const node of this.running.nodes) {  // without a click
      node.gain.gain.setTargetAtTime(node.name === name ? level : 0, audio.currentTime, 0.006);
    }
  }

  get position() { return Math.max(0, audio.currentTime - this.running.zero); }

  get ended() { return false; }  // it runs on as silence
}

class Streamed {  // sounds of long recordings: one file at a time
  constructor(section) {
    this.section = section;
    this.raises = false;
    this.playing = false;
  }

  async prepare(prompt) {
    const tab = [...this.section.querySelectorAll('[role="tab"]')].find((one) => one.dataset.prompt === prompt);
    const links = { input: this.section.dataset.input, ...tab?.dataset };
    if (!this.element) {
      this.element = new Audio();
      this.element.addEventListener("error", () => views.get(this.section).lost(decodeURIComponent(this.link)));
    }
    this.links = links;
    this.load();
  }

  load() {
    const link = this.links && this.links[this.name];
    if (!link || link === this.link) return;
    const at = this.element.currentTime;
    this.link = link;
    this.element.src = link;
    this.element.currentTime = at;
    if (this.playing) this.run();
  }

  start(at) {
    this.playing = true;
    this.element.currentTime = at;
    this.run();
  }

  run() { this.element.play().catch(() => {}); }  // the element's "error" says why

  stop() {
    this.playing = false;
    if (this.element) this.element.pause();
  }

  choose(name) {
    this.name = name;
    this.load();
  }

  get position() { return this.element.currentTime; }

  get ended() { return this.element.ended && !this.element.seeking; }  // a browser may read less of a file
}

// --- a recording ------------------------------------------------------------------------

class View {
  constructor(section) {
    this.section = section;
    this.find = (selector) => section.querySelector(selector);
    this.all = (selector) => [...section.querySelectorAll(selector)];
    this.tabs = this.all('[role="tab"]');
    this.whole = section.classList.contains("whole");  // all its events are seen at once
    this.prompt = this.whole ? "" : this.tabs[0].dataset.prompt;
    this.loaded = new Promise((done) => { this.isLoaded = done; });
    this.name = "input";
    this.at = 0;
    this.until = null;
    this.playing = false;
    this.raised = false;
    this.lastEvent = -1;
    this.find(".player").hidden = false;
    this.choosePrompt(this.prompt);
    this.listen();
  }

  async load(data) {
    this.data = data;
    this.span = [0, data.seconds];
    this.engine = data.sound ? new Decoded(data) : this.section.dataset.input ? new Streamed(this.section) : null;
    if (!this.engine) {
      this.mute(this.whole
        ? "The whole recording is not in this file: its events are, and play in their own sections below."
        : "This recording is too long for a single file: its sounds lie in the folder that was written with the page.");
    }
    this.find(".raise").disabled = !(this.engine && this.engine.raises);
    for (const sound of ["rms", "peak"]) data.levels[sound] = bytes(data.levels[sound]);
    this.picture = await inflate(data.picture);
    await Promise.all(Object.values(data.prompts).filter((one) => !one.empty).map(async (one) => {
      one.cells = await inflate(one.mask);
      for (const part of [one.explanation, one.residual]) {
        for (const sound of ["rms", "peak"]) part[sound] = bytes(part[sound]);
      }
    }));
    this.describe();
    this.choosePrompt(this.prompt);
    this.ready = true;
    this.section.dataset.ready = "";
    new ResizeObserver(() => this.draw()).observe(this.find(".plot"));
    this.isLoaded();
  }

  lost(file) {
    this.pause();
    if (!this.whole) return this.complain(`The file ${file} is missing: keep the page with its folder.`);
    this.engine = null;
    this.mute(`${this.section.dataset.file} cannot be played: it is no longer there, or of a kind that this browser does not play. ` +
      "Events play in their own sections.");
    if (this.chosen) this.playChosenAlone();
  }

  mute(text) {
    this.complain(text);
    for (const one of this.all(".play, .sounds input")) one.disabled = true;
  }

  part(prompt) { return this.data.prompts[prompt] ?? { empty: true }; }

  complain(text) {
    const place = this.find(".problem");
    place.textContent = text;
    place.hidden = false;
  }

  describe() {
    const nyquist = this.data.sampleRate / 2;
    const parts = [`Spectrogram of ${this.section.dataset.file}, ${this.data.seconds.toFixed(1)} seconds, up to ${nyquist / 1000} kHz`];
    for (const strip of this.all(".strip")) {
      const [start, stop, low, high] = this.data.prompts[strip.dataset.prompt].where;
      const seconds = this.data.seconds;
      const canvas = strip.querySelector("canvas");
      const what = `${strip.querySelector(".name").textContent}: most of what it keeps lies from ${(start * seconds).toFixed(1)} to ` +
        `${(stop * seconds).toFixed(1)} s and from ${Math.round(low)} to ${Math.round(high)} Hz`;
      canvas.setAttribute("aria-label", what);
      parts.push(what);
    }
    this.find(".plot canvas").setAttribute("aria-label", parts.join("; "));
  }

  // what is chosen

  choosePrompt(prompt, focus = false) {
    this.prompt = prompt;
    this.tabs.forEach((tab, number) => {
      const chosen = tab.dataset.prompt === prompt;
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
      if (chosen && focus) tab.focus();
      this.all(".panel")[number].hidden = !chosen;
    });
    for (const strip of this.all(".strip")) strip.classList.toggle("chosen", strip.dataset.prompt === prompt);
    for (const box of this.all(".box")) box.hidden = !this.whole && box.dataset.prompt !== prompt;
    if (!this.data) return;
    const empty = this.part(prompt).empty;
    for (const radio of this.all(".sounds input")) radio.disabled = !this.engine || (empty && radio.value !== "input");
    this.chooseSound(empty ? "input" : this.name);
    this.draw();
    if (this.playing) this.play(this.at, this.until);
  }

  chooseSound(name) {
    const radio = this.all(".sounds input").find((one) => one.value === name);
    if (radio.disabled) return;
    radio.checked = true;
    this.name = name;
    if (this.engine) this.engine.choose(name, 10 ** (this.gain(name) / 20));
    this.showLevels();
  }

  levels(name) {
    if (name === "input") return this.data.levels;
    const chosen = this.part(this.prompt);
    return chosen.empty ? null : chosen[name];
  }

  gain(name) {  // dB
    const levels = this.levels(name);
    if (!this.raised || !levels || levels.peakDb === null) return 0;
    return clamp(-1 - levels.peakDb, -60, 60);
  }

  raise() {
    if (this.find(".raise").disabled) return;
    this.raised = !this.raised;
    this.find(".raise").setAttribute("aria-pressed", this.raised);
    this.chooseSound(this.name);
  }

  // the transport

  async play(at = this.at, until = null) {
    if (!this.engine || !this.ready) return;
    for (const other of views.values()) if (other !== this) other.pause();
    current = this;
    const ticket = (this.ticket = {});
    try {
      if (this.engine.raises) context(this.data.sampleRate);
      await this.engine.prepare(this.prompt);
    } catch (error) {
      this.complain(`This browser cannot play the sound: ${error.message}`);
      return;
    }
    if (ticket !== this.ticket) return;  // paused or moved meanwhile
    this.at = at >= this.data.seconds - 0.005 ? 0 : at;
    this.until = until;
    this.engine.choose(this.name, 10 ** (this.gain(this.name) / 20));
    this.engine.start(this.at);
    this.playing = true;
    this.showPlaying();
    this.step();
  }

  pause() {
    this.ticket = null;
    if (!this.playing) return;
    this.engine.stop();
    this.playing = false;
    this.until = null;
    this.showPlaying();
  }

  toggle() { this.playing ? this.pause() : this.play(); }

  seek(at) {
    this.at = clamp(at, 0, this.data.seconds);
    this.until = null;
    if (this.playing) this.play(this.at);
    this.showPosition();
  }

  step() {
    if (!this.playing) return;
    this.at = Math.min(this.engine.position, this.data.seconds);
    const end = this.until ?? this.data.seconds;
    if (this.at >= end - 1e-3 || this.engine.ended) {
      this.pause();
      this.at = end;
    }
    this.showPosition();
    requestAnimationFrame(() => this.step());
  }

  playEvent({ dataset: { prompt, ...limits } }) {
    this.lastEvent = this.all(".events tbody tr").findIndex(
      ({ dataset: row }) => row.prompt === prompt && row.start === limits.start && row.stop === limits.stop);
    const [start, stop] = [Number(limits.start), Number(limits.stop)];
    if (this.whole) {
      this.chosen = { prompt, ...limits };
      if (!this.engine) return this.playChosenAlone();
    } else if (prompt !== this.prompt) {
      this.pause();
      this.choosePrompt(prompt);
    }
    if (start < this.span[0] || stop > this.span[1]) this.zoom(1, (start + stop) / 2);
    this.play(start, stop);
  }

  async playChosenAlone() {  // in its own section
    const rows = this.all(".events tbody tr").map((row) => row.dataset);
    const { section } = rows.find((row) => row.start === this.chosen.start && row.prompt === this.chosen.prompt);
    const view = views.get(document.getElementById(section));
    view.section.scrollIntoView();
    await view.loaded;
    view.nextEvent();
  }

  nextEvent() {
    const rows = this.all(".events tbody tr");
    if (rows.length) rows[(this.lastEvent + 1) % rows.length].click();
  }

  // what is seen

  showPlaying() {
    const button = this.find(".play");
    button.textContent = this.playing ? "❚❚" : "▶";
    button.setAttribute("aria-label", this.playing ? "Pause" : "Play");
    for (const one of this.all(".box, .events tbody tr")) {
      const { prompt, start, stop } = one.dataset;
      const same = prompt === (this.whole ? this.chosen?.prompt : this.prompt) && Math.abs(stop - (this.until ?? -1)) < 1e-9 && start <= this.at + 1e-6;
      one.classList.toggle("playing", this.playing && same);
    }
  }

  showPosition() {
    const seconds = this.data.seconds;
    const seek = this.find(".seek");
    if (this.at < this.span[0] || this.at > this.span[1]) {  // the picture follows
      this.zoom(1, this.at + 0.45 * (this.span[1] - this.span[0]));
      return;
    }
    seek.value = this.at;
    seek.setAttribute("aria-valuetext", `${this.at.toFixed(1)} of ${seconds.toFixed(1)} seconds`);
    this.find(".clock").textContent = `${clock(this.at, seconds)} / ${clock(seconds, seconds)}`;
    const place = this.place(this.at);
    const cursor = this.find(".cursor");
    cursor.style.left = `${100 * place}%`;
    this.showLevels();
  }

  showLevels() {
    for (const label of this.all(".sound")) {
      const levels = this.levels(label.dataset.sound);
      const gain = this.gain(label.dataset.sound);
      const number = levels ? clamp(Math.floor(this.at / levels.step), 0, levels.rms.length - 1) : 0;
      const width = (kind) => (levels ? clamp(100 * (1 + (decibel(levels[kind][number]) + gain) / 60), 0, 100) : 0);
      const rms = width("rms");
      label.querySelector(".rms").style.width = `${rms}%`;
      label.querySelector(".rms").style.setProperty("--full", `${rms ? 10000 / rms : 100}%`);
      label.querySelector(".peak").style.left = `calc(${width("peak")}% - 3px)`;
      const peak = levels && (levels.peakDb === null ? "silence" : `peak ${minus(levels.peakDb + gain)} dB`);
      label.querySelector(".level").textContent = levels ? peak + (gain ? ` (${signed(gain)})` : "") : "";
    }
  }

  place(time) { return (time - this.span[0]) / (this.span[1] - this.span[0]); }

  zoom(factor, middle = this.at) {
    const seconds = this.data.seconds;
    const width = clamp((this.span[1] - this.span[0]) / factor, Math.min(seconds, 0.5), seconds);
    const start = clamp(middle - width / 2, 0, seconds - width);
    this.span = [start, start + width];
    this.draw();
  }

  draw() {
    if (!this.data || !this.picture) return;
    const scale = axis(this.find(".axis").value, this.data.sampleRate / 2);
    const chosen = this.part(this.prompt);
    const fade = chosen.empty ? 0 : Number(this.find(".fade").value);
    this.paint(this.find(".plot canvas"), this.colour(scale, chosen.cells, fade));
    this.drawStrips(scale);
    for (const one of this.all(".fade")) one.disabled = chosen.empty;
    this.showAxes(scale);
    this.showBoxes(scale);
    this.showPosition();
  }

  drawStrips(scale) {  // they stay as they are while the slider moves
    const wide = this.find(".plot").clientWidth;
    const state = [this.find(".axis").value, wide, window.devicePixelRatio, ...this.span].join();
    if (state === this.drawn) return;
    this.drawn = state;
    for (const strip of this.all(".strip")) {
      this.paint(strip.querySelector("canvas"), this.colourMask(scale, this.data.prompts[strip.dataset.prompt].cells));
    }
  }

  rowAt(scale, row) {  // row of the data at a row of the picture, both from above
    const { rows, sampleRate } = this.data;
    const place = mel(scale.hertz(1 - (row + 0.5) / rows)) / mel(sampleRate / 2);
    return clamp(Math.floor((1 - place) * rows), 0, rows - 1);
  }

  pixels(scale, colourOf) {
    const { rows, columns } = this.data;
    const image = new ImageData(columns, rows);
    const out = new Uint32Array(image.data.buffer);
    for (let row = 0, to = 0; row < rows; row++) {
      let from = this.rowAt(scale, row) * columns;
      for (let column = 0; column < columns; column++) out[to++] = colourOf(from++);
    }
    return image;
  }

  colour(scale, mask, fade) {
    const { picture } = this;
    const table = fadedColours(mask ? fade : 0);
    const steps = settings.maskSteps + 1;
    if (!mask) return this.pixels(scale, (cell) => table[picture[cell] * steps]);
    return this.pixels(scale, (cell) => table[picture[cell] * steps + mask[cell]]);
  }

  colourMask(scale, mask) {
    return this.pixels(scale, (cell) => maskTable[mask[cell]]);
  }

  paint(canvas, image) {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((one) => Math.max(1, Math.round(one * ratio)));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const sheet = document.createElement("canvas");
    Object.assign(sheet, { width: image.width, height: image.height });
    sheet.getContext("2d").putImageData(image, 0, 0);
    const pen = canvas.getContext("2d");
    const [first, last] = this.span.map((time) => (time / this.data.seconds) * image.width);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(sheet, first, 0, last - first, image.height, 0, 0, width, height);
  }

  showAxes(scale) {
    const nyquist = this.data.sampleRate / 2;
    const hertz = TICKS_HZ.filter((one) => one >= scale.low && one <= nyquist);
    const marks = [];
    for (const one of hertz) {
      const place = scale.place(one);
      if (marks.length && place - marks[marks.length - 1].place < 0.07) continue;
      marks.push({ place, text: one >= 1000 ? `${one / 1000}k` : `${one}` });
    }
    this.find(".hertz").replaceChildren(
      ...marks.map(({ place, text }) => span(text, { bottom: `${100 * place}%` })),
      span("Hz", {}, "unit"));
    const wide = this.find(".plot").clientWidth;
    const step = niceStep((this.span[1] - this.span[0]) / Math.max(2, wide / 90));
    const times = [];
    for (let time = Math.ceil(this.span[0] / step - 1e-9) * step; time <= this.span[1] + 1e-9; time += step) times.push(time);
    const digits = step >= 1 ? 0 : step >= 0.1 ? 1 : 2;
    this.find(".times").replaceChildren(...times.filter((one) => this.place(one) < 0.97)
      .map((one) => span(this.data.seconds < settings.clockSeconds ? `${one.toFixed(digits)}${one === times[0] ? " s" : ""}` : clock(one, this.data.seconds, digits),
        { left: `${100 * this.place(one)}%` })));
  }

  showBoxes(scale) {
    for (const box of this.all(".box")) {
      const { start, stop, low, high } = box.dataset;
      const [left, right] = [this.place(start), this.place(stop)];
      const [bottom, top] = [low, high].map((one) => clamp(scale.place(Number(one)), 0, 1));
      Object.assign(box.style, {
        left: `${100 * left}%`, width: `${100 * (right - left)}%`,
        bottom: `${100 * bottom}%`, height: `${100 * Math.max(0.02, top - bottom)}%`,
      });
    }
  }

  // keys, clicks and drags

  listen() {
    const on = (selector, kind, act) => this.all(selector).forEach((one) => one.addEventListener(kind, act));
    this.section.addEventListener("pointerdown", () => { current = this; });
    this.section.addEventListener("focusin", () => { current = this; });
    on('[role="tab"]', "click", (event) => this.choosePrompt(event.currentTarget.dataset.prompt));
    on('[role="tablist"]', "keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      this.stepPrompt(step, true);
    });
    on(".play", "click", () => this.toggle());
    on(".seek", "input", (event) => this.data && this.seek(Number(event.target.value)));
    on(".sounds input", "change", (event) => this.chooseSound(event.target.value));
    on(".raise", "click", () => this.raise());
    on(".fade", "input", () => this.draw());
    on(".axis", "change", () => this.draw());
    on(".in", "click", () => this.data && this.zoom(2));
    on(".out", "click", () => this.data && this.zoom(0.5));
    const event = (one) => this.data && this.playEvent(one);
    on(".box", "click", ({ currentTarget }) => event(currentTarget));
    on(".events tbody tr", "click", ({ currentTarget, target }) => target.closest("a") || event(currentTarget));
    on(".strip", "pointerdown", ({ currentTarget }) => this.choosePrompt(currentTarget.dataset.prompt));
    const lanes = this.find(".lanes");
    const seek = (one) => {
      const { left, width } = lanes.getBoundingClientRect();
      this.seek(this.span[0] + ((one.clientX - left) / width) * (this.span[1] - this.span[0]));
    };
    lanes.addEventListener("pointerdown", (one) => {
      if (!this.data || one.button || one.target.closest(".box")) return;
      lanes.setPointerCapture(one.pointerId);
      seek(one);
    });
    lanes.addEventListener("pointermove", (one) => { if (lanes.hasPointerCapture(one.pointerId)) seek(one); });
  }

  stepPrompt(step, focus) {
    if (!this.tabs.length) return;
    const number = this.tabs.findIndex((tab) => tab.dataset.prompt === this.prompt);
    this.choosePrompt(this.tabs[(number + step + this.tabs.length) % this.tabs.length].dataset.prompt, focus);
  }
}

function span(text, style, name = "") {
  const one = document.createElement("span");
  one.textContent = text;
  one.className = name;
  Object.assign(one.style, style);
  return one;
}

function niceStep(least) {
  const minutes = [30, 60, 120, 300, 600, 1200, 1800, 3600, 7200].find((one) => one >= least * (1 - 1e-9));
  if (least > 20 && minutes) return minutes;
  const power = 10 ** Math.floor(Math.log10(least));
  return power * [1, 2, 5, 10].find((one) => one * power >= least * (1 - 1e-9));
}

function clock(time, whole, digits = 1) {
  if (whole < settings.clockSeconds) return `${time.toFixed(1)} s`;
  const [tens, unit] = [Math.round(time * 10 ** digits), 10 ** digits];  // rounded first: 59.96 is 1:00.0
  const [hours, minutes] = [Math.floor(tens / unit / 3600), Math.floor(tens / unit / 60) % 60];
  const seconds = ((tens % (60 * unit)) / unit).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${seconds}` : `${minutes}:${seconds}`;
}

// --- the page ---------------------------------------------------------------------------

window[settings.call] = (data) => views.get(document.getElementById(document.currentScript.dataset.section)).load(data);

function fetchData(section) {
  if (section.dataset.inline) {
    const element = document.getElementById(section.dataset.inline);
    if (!element) return views.get(section).mute("This file is full: picture and sounds are on the page that is written without --single-file.");
    const data = JSON.parse(element.textContent);
    element.remove();  // it is as large as the sounds
    return views.get(section).load(data);
  }
  const script = document.createElement("script");
  script.src = section.dataset.script;
  script.dataset.section = section.id;
  script.onerror = () => views.get(section).complain(
    `The file ${decodeURIComponent(section.dataset.script)} is missing: keep the page with its folder, or write it with --single-file.`);
  document.head.append(script);
}

const watcher = new IntersectionObserver((seen) => {
  for (const { target } of seen.filter((one) => one.isIntersecting)) {
    watcher.unobserve(target);
    fetchData(target);
  }
}, { rootMargin: "800px" });

document.addEventListener("DOMContentLoaded", () => {
  for (const section of document.querySelectorAll(".recording")) {
    views.set(section, new View(section));
    watcher.observe(section);
  }
});

function inView() {
  const middle = window.innerHeight / 2;
  const distance = (one) => {
    const { top, bottom } = one.section.getBoundingClientRect();
    return top <= middle && bottom >= middle ? 0 : Math.min(Math.abs(top - middle), Math.abs(bottom - middle));
  };
  const near = [...views.values()].sort((a, b) => distance(a) - distance(b));
  const seen = current && current.section.getBoundingClientRect();
  return seen && seen.top < window.innerHeight && seen.bottom > 0 ? current : near[0];
}

const theme = document.getElementById("theme");
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
const showTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
function switchTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
}
theme.hidden = false;
theme.setAttribute("aria-label", "Switch between dark and light");
theme.addEventListener("click", switchTheme);
dark.addEventListener("change", showTheme);
showTheme();

const KEYS = {
  " ": (view) => view.toggle(),
  ArrowLeft: (view) => view.seek(view.at - Math.max(0.5, view.data.seconds / 50)),
  ArrowRight: (view) => view.seek(view.at + Math.max(0.5, view.data.seconds / 50)),
  1: (view) => view.chooseSound("input"),
  2: (view) => view.chooseSound("explanation"),
  3: (view) => view.chooseSound("residual"),
  "[": (view) => view.stepPrompt(-1),
  "]": (view) => view.stepPrompt(1),
  e: (view) => view.nextEvent(),
  r: (view) => view.raise(),
  a: (view) => {
    const choice = view.find(".axis");
    choice.value = choice.value === "mel" ? "log" : "mel";
    view.draw();
  },
  "+": (view) => view.zoom(2),
  "=": (view) => view.zoom(2),
  "-": (view) => view.zoom(0.5),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "t" && !event.target.closest("select")) return switchTheme();
  const act = KEYS[event.key];
  const view = act && inView();
  if (!view || !view.ready) return;
  const place = event.target;
  if (place.closest("select, summary")) return;
  if (event.key.startsWith("Arrow") && place.closest("input")) return;
  if (event.key === " " && place.closest("button, a")) return;
  event.preventDefault();
  current = view;
  act(view);
});
})();

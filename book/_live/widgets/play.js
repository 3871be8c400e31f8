// ipywidgets' Play, whose icon element is not stable: the theme's FontAwesome script replaces each <i> by an <svg>,
// and the stock view then fails to find it. Here the icon is made anew, and the buttons have names.
import * as stock from '@jupyter-widgets/controls';

export class PlayView extends stock.PlayView {
  render() {
    super.render();
    this.stopButton.setAttribute('aria-label', 'Stop');
    this.repeatButton.setAttribute('aria-label', 'Repeat');
    for (const button of this.el.querySelectorAll('button')) button.type = 'button';
  }

  updatePlaying() {
    const playing = this.model.get('playing');
    const icon = document.createElement('i');
    icon.className = playing ? 'fa fa-pause' : 'fa fa-play';
    this.playPauseButton.replaceChildren(icon);
    this.playPauseButton.setAttribute('aria-label', playing ? 'Pause' : 'Play');
  }
}

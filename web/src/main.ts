import './app.css'
import { mount } from 'svelte'
import App from './App.svelte'
import { start } from './state.svelte'

start()
mount(App, { target: document.getElementById('app')! })

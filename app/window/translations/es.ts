<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="es">
<context>
    <name></name>
    <message>
        <source>Default</source>
        <translation>Predeterminado</translation>
    </message>
    <message>
        <source>Default: {0}</source>
        <translation>Predeterminado: {0}</translation>
    </message>
    <message>
        <source>Denoised Microphone, for call apps</source>
        <translation>Denoised Microphone, para llamadas</translation>
    </message>
    <message>
        <source>{description}
Version {version}, {megabytes} MB, licence {licence}</source>
        <translation>{description}
Versión {version}, {megabytes} MB, licencia {licence}</translation>
    </message>
    <message>
        <source>0 dB: changes nothing</source>
        <translation>0 dB: no cambia nada</translation>
    </message>
    <message>
        <source>no limit</source>
        <translation>sin límite</translation>
    </message>
    <message>
        <source>{name}  ({delay} ms, up to {top} kHz)</source>
        <translation>{name}  ({delay} ms, hasta {top} kHz)</translation>
    </message>
    <message>
        <source>{0} dB: gentle</source>
        <translation>{0} dB: suave</translation>
    </message>
    <message>
        <source>{0} dB: balanced</source>
        <translation>{0} dB: equilibrada</translation>
    </message>
    <message>
        <source>{0} dB: strong</source>
        <translation>{0} dB: fuerte</translation>
    </message>
    <message>
        <source>Home</source>
        <translation>Casa</translation>
    </message>
    <message>
        <source>Office</source>
        <translation>Oficina</translation>
    </message>
    <message>
        <source>Train</source>
        <translation>Tren</translation>
    </message>
    <message>
        <source>Delay {0}</source>
        <translation>Retardo {0}</translation>
    </message>
    <message>
        <source>CPU {0}</source>
        <translation>CPU {0}</translation>
    </message>
    <message>
        <source>Drops {0}</source>
        <translation>Cortes {0}</translation>
    </message>
    <message>
        <source>Runs on {0}</source>
        <translation>Se ejecuta en {0}</translation>
    </message>
    <message>
        <source>Trying again: {0}</source>
        <translation>Volviendo a intentarlo: {0}</translation>
    </message>
    <message>
        <source>Your voice goes through uncleaned: {0}</source>
        <translation>Tu voz pasa sin limpiar: {0}</translation>
    </message>
    <message>
        <source>{0} is too much for this machine at the moment: {1} cleans instead</source>
        <translation>{0} es demasiado para este equipo en este momento: mientras tanto limpia {1} en su lugar</translation>
    </message>
    <message>
        <source>The device delivers no sound; trying again</source>
        <translation>El dispositivo no envía sonido; volviendo a intentarlo</translation>
    </message>
    <message>
        <source>What the others send is not clean at the moment: {0}</source>
        <translation>Ahora no se limpia lo que envían los demás: {0}</translation>
    </message>
    <message>
        <source>kHz</source>
        <translation>kHz</translation>
    </message>
</context>
<context>
    <name>Controls</name>
    <message>
        <source>&amp;Microphone</source>
        <translation>&amp;Micrófono</translation>
    </message>
    <message>
        <source>Clean sound &amp;goes to</source>
        <translation>El sonido limpio &amp;va a</translation>
    </message>
    <message>
        <source>Mo&amp;del</source>
        <translation>Mo&amp;delo</translation>
    </message>
    <message>
        <source>&amp;Hear yourself</source>
        <translation>&amp;Escucharme</translation>
    </message>
    <message>
        <source>Plays the clean sound to your loudspeakers as well</source>
        <translation>Reproduce el sonido limpio también por tus altavoces</translation>
    </message>
    <message>
        <source>No frequency is turned down by more than this. Less leaves some noise and sounds more natural.</source>
        <translation>Ninguna frecuencia se atenúa más que esto. Con menos queda algo de ruido y suena más natural.</translation>
    </message>
    <message>
        <source>&amp;Strength</source>
        <translation>&amp;Intensidad</translation>
    </message>
    <message>
        <source>Clean what &amp;others send</source>
        <translation>&amp;Limpiar lo que envían los demás</translation>
    </message>
    <message>
        <source>Takes the noise of the others out of what you hear in a call</source>
        <translation>Quita el ruido de los demás de lo que oyes en una llamada</translation>
    </message>
    <message>
        <source>In your call app choose &lt;b&gt;Denoised Speakers&lt;/b&gt; as the speaker.</source>
        <translation>En tu aplicación de llamadas, elige &lt;b&gt;Denoised Speakers&lt;/b&gt; como altavoz.</translation>
    </message>
    <message>
        <source>In your call app choose &lt;b&gt;Denoised Microphone&lt;/b&gt; as the microphone.</source>
        <translation>En tu aplicación de llamadas, elige &lt;b&gt;Denoised Microphone&lt;/b&gt; como micrófono.</translation>
    </message>
    <message>
        <source>The clean sound is played to a device; call apps do not get it.</source>
        <translation>El sonido limpio se reproduce en un dispositivo; a las aplicaciones de llamadas no les llega.</translation>
    </message>
    <message>
        <source>Strength: {0}</source>
        <translation>Intensidad: {0}</translation>
    </message>
</context>
<context>
    <name>HearPage</name>
    <message>
        <source>Hear the difference</source>
        <translation>Escuchar la diferencia</translation>
    </message>
    <message>
        <source>&amp;Record five seconds</source>
        <translation>&amp;Grabar cinco segundos</translation>
    </message>
    <message>
        <source>How much is recorded</source>
        <translation>Cuánto se ha grabado</translation>
    </message>
    <message>
        <source>Spectrogram before cleaning</source>
        <translation>Espectrograma antes de limpiar</translation>
    </message>
    <message>
        <source>Spectrogram after cleaning</source>
        <translation>Espectrograma después de limpiar</translation>
    </message>
    <message>
        <source>Before: what your microphone heard</source>
        <translation>Antes: lo que oyó tu micrófono</translation>
    </message>
    <message>
        <source>After: what the others heard</source>
        <translation>Después: lo que oyeron los demás</translation>
    </message>
    <message>
        <source>Speak for five seconds with the noise around you, then listen to both. A click in a picture plays from there.</source>
        <translation>Habla durante cinco segundos con el ruido que te rodea y después escucha las dos versiones. Al hacer clic en una imagen se reproduce desde ahí.</translation>
    </message>
    <message>
        <source>The recording stays in this machine&apos;s memory and is gone when you close this page. It is never saved or sent.</source>
        <translation>La grabación permanece en la memoria de este equipo y desaparece al cerrar esta página. Nunca se guarda ni se envía.</translation>
    </message>
    <message>
        <source>&amp;Close</source>
        <translation>&amp;Cerrar</translation>
    </message>
    <message>
        <source>Nothing is recorded yet</source>
        <translation>Aún no hay nada grabado</translation>
    </message>
    <message>
        <source>▶ Play &amp;before</source>
        <translation>▶ Oír el &amp;antes</translation>
    </message>
    <message>
        <source>▶ Play &amp;after</source>
        <translation>▶ Oír el &amp;después</translation>
    </message>
    <message>
        <source>■ &amp;Stop</source>
        <translation>■ &amp;Parar</translation>
    </message>
    <message>
        <source>Recording: speak now…</source>
        <translation>Grabando: habla ahora…</translation>
    </message>
    <message>
        <source>It cannot be played: {0}</source>
        <translation>No se puede reproducir: {0}</translation>
    </message>
    <message>
        <source>&amp;Record again</source>
        <translation>&amp;Grabar de nuevo</translation>
    </message>
    <message>
        <source>Nothing was recorded: {0}</source>
        <translation>No se ha grabado nada: {0}</translation>
    </message>
    <message>
        <source>Both are the same: the noise is not taken out at the moment.</source>
        <translation>Las dos son iguales: ahora mismo no se quita el ruido.</translation>
    </message>
    <message>
        <source>You are muted: the others heard nothing.</source>
        <translation>Tu micrófono está silenciado: los demás no oyeron nada.</translation>
    </message>
    <message>
        <source>Between words the noise is more than {0} dB lower.</source>
        <translation>Entre palabra y palabra, el ruido baja más de {0} dB.</translation>
    </message>
    <message>
        <source>There was hardly any noise between words.</source>
        <translation>Apenas había ruido entre palabra y palabra.</translation>
    </message>
    <message>
        <source>Between words the noise is {0} dB lower.</source>
        <translation>Entre palabra y palabra, el ruido baja {0} dB.</translation>
    </message>
</context>
<context>
    <name>HelpPage</name>
    <message>
        <source>How to use it</source>
        <translation>Cómo se usa</translation>
    </message>
    <message>
        <source>&amp;Got it</source>
        <translation>&amp;Entendido</translation>
    </message>
    <message>
        <source>Settings › Audio › Microphone</source>
        <translation>Configuración › Audio › Micrófono</translation>
    </message>
    <message>
        <source>⋮ › Settings › Audio › Microphone</source>
        <translation>⋮ › Configuración › Audio › Micrófono</translation>
    </message>
    <message>
        <source>⋯ › Settings › Devices › Microphone</source>
        <translation>⋯ › Configuración › Dispositivos › Micrófono</translation>
    </message>
    <message>
        <source>User Settings › Voice &amp; Video › Input Device</source>
        <translation>Ajustes de usuario › Voz y vídeo › Dispositivo de entrada</translation>
    </message>
    <message>
        <source>Sources › + › Audio Input Capture › Device</source>
        <translation>Fuentes › + › Captura de entrada de audio › Dispositivo</translation>
    </message>
    <message>
        <source>In a browser</source>
        <translation>En un navegador</translation>
    </message>
    <message>
        <source>the camera icon in the address bar</source>
        <translation>el icono de la cámara en la barra de direcciones</translation>
    </message>
    <message>
        <source>Choose your real microphone in this window, under &lt;b&gt;Microphone&lt;/b&gt;.</source>
        <translation>Elige tu micrófono de verdad en esta ventana, en &lt;b&gt;Micrófono&lt;/b&gt;.</translation>
    </message>
    <message>
        <source>In your call app choose &lt;b&gt;Denoised Microphone&lt;/b&gt; as the microphone:</source>
        <translation>En tu aplicación de llamadas, elige &lt;b&gt;Denoised Microphone&lt;/b&gt; como micrófono:</translation>
    </message>
    <message>
        <source>Turn the app&apos;s own noise suppression off: two in a row damage the voice.</source>
        <translation>Desactiva la supresión de ruido de la propia aplicación: dos seguidas estropean la voz.</translation>
    </message>
    <message>
        <source>Speak. The upper picture shows what your microphone hears, the lower one what the others hear.</source>
        <translation>Habla. La imagen de arriba muestra lo que oye tu micrófono; la de abajo, lo que oyen los demás.</translation>
    </message>
    <message>
        <source>To take the noise out of what you hear, tick &lt;b&gt;Clean what others send&lt;/b&gt; and choose &lt;b&gt;Denoised Speakers&lt;/b&gt; as the speaker in your call app.</source>
        <translation>Para quitar el ruido de lo que oyes, marca &lt;b&gt;Limpiar lo que envían los demás&lt;/b&gt; y elige &lt;b&gt;Denoised Speakers&lt;/b&gt; como altavoz en tu aplicación de llamadas.</translation>
    </message>
    <message>
        <source>The big switch lets your voice through as it is when it is off; nothing else changes in the call. All sound stays on this machine.</source>
        <translation>Con el interruptor grande desactivado, tu voz pasa tal cual; nada más cambia en la llamada. Todo el sonido se queda en este equipo.</translation>
    </message>
</context>
<context>
    <name>MainWindow</name>
    <message>
        <source>Some settings made no sense; the old file is kept as {0}</source>
        <translation>Algunos ajustes no tenían sentido; el archivo anterior se conserva como {0}</translation>
    </message>
    <message>
        <source>The settings cannot be read; what you change now is not kept</source>
        <translation>No se pueden leer los ajustes; lo que cambies ahora no se conservará</translation>
    </message>
    <message>
        <source>Take noise out</source>
        <translation>Quitar el ruido</translation>
    </message>
    <message>
        <source>On</source>
        <translation>Activado</translation>
    </message>
    <message>
        <source>Noise is taken out of your voice</source>
        <translation>Se quita el ruido de tu voz</translation>
    </message>
    <message>
        <source>Off</source>
        <translation>Desactivado</translation>
    </message>
    <message>
        <source>Your voice goes through as it is</source>
        <translation>Tu voz pasa tal cual</translation>
    </message>
    <message>
        <source>Waiting…</source>
        <translation>Esperando…</translation>
    </message>
    <message>
        <source>The engine is not there yet</source>
        <translation>El motor aún no está listo</translation>
    </message>
    <message>
        <source>Mute</source>
        <translation>Silenciar</translation>
    </message>
    <message>
        <source>Muted</source>
        <translation>Silenciado</translation>
    </message>
    <message>
        <source>Nobody hears you</source>
        <translation>Nadie te oye</translation>
    </message>
    <message>
        <source>The others hear you</source>
        <translation>Los demás te oyen</translation>
    </message>
    <message>
        <source>There is no sound yet</source>
        <translation>Aún no hay sonido</translation>
    </message>
    <message>
        <source>&amp;Pause pictures</source>
        <translation>&amp;Pausar las imágenes</translation>
    </message>
    <message>
        <source>Hear the d&amp;ifference…</source>
        <translation>Escuchar la dife&amp;rencia…</translation>
    </message>
    <message>
        <source>How to &amp;use it</source>
        <translation>Cómo se &amp;usa</translation>
    </message>
    <message>
        <source>S&amp;ettings…</source>
        <translation>A&amp;justes…</translation>
    </message>
    <message>
        <source>Starting…</source>
        <translation>Iniciando…</translation>
    </message>
    <message>
        <source>State</source>
        <translation>Estado</translation>
    </message>
    <message>
        <source>From the microphone to the call app</source>
        <translation>Del micrófono a la aplicación de llamadas</translation>
    </message>
    <message>
        <source>Of one processor core, by the engine</source>
        <translation>De un núcleo del procesador, por el motor</translation>
    </message>
    <message>
        <source>Moments in which sound was lost</source>
        <translation>Momentos en los que se perdió sonido</translation>
    </message>
    <message>
        <source>What runs the model</source>
        <translation>Lo que ejecuta el modelo</translation>
    </message>
    <message>
        <source>Let &amp;pictures go on</source>
        <translation>Reanudar las imá&amp;genes</translation>
    </message>
    <message>
        <source>That was not possible: {0}</source>
        <translation>No ha sido posible: {0}</translation>
    </message>
    <message>
        <source>Nobody hears you at the moment</source>
        <translation>Nadie te oye en este momento</translation>
    </message>
    <message>
        <source>Not there: {0}. The system&apos;s device is used until it is.</source>
        <translation>No disponible: {0}. Mientras tanto se usa el dispositivo del sistema.</translation>
    </message>
    <message>
        <source>The engine ended; starting it again</source>
        <translation>El motor se ha cerrado; iniciándolo de nuevo</translation>
    </message>
    <message>
        <source>The engine does not answer; waiting for it</source>
        <translation>El motor no responde; esperándolo</translation>
    </message>
    <message>
        <source>No sound</source>
        <translation>Sin sonido</translation>
    </message>
    <message>
        <source>Nobody listens: the microphone is off</source>
        <translation>Nadie escucha: el micrófono está apagado</translation>
    </message>
    <message>
        <source>Opening the microphone…</source>
        <translation>Abriendo el micrófono…</translation>
    </message>
    <message>
        <source>{input} → {output}</source>
        <translation>{input} → {output}</translation>
    </message>
</context>
<context>
    <name>Mishaps</name>
    <message>
        <source>Something in the window went wrong. Your sound goes on.</source>
        <translation>Algo ha fallado en la ventana. Tu sonido sigue.</translation>
    </message>
    <message>
        <source>If it happens again, please report it with a copy of the diagnostics.</source>
        <translation>Si vuelve a ocurrir, comunícalo con una copia del diagnóstico.</translation>
    </message>
    <message>
        <source>&amp;Copy diagnostics</source>
        <translation>&amp;Copiar diagnóstico</translation>
    </message>
</context>
<context>
    <name>Picker</name>
    <message>
        <source>{0} (not there)</source>
        <translation>{0} (no está)</translation>
    </message>
</context>
<context>
    <name>Pictures</name>
    <message>
        <source>Spectrogram before cleaning</source>
        <translation>Espectrograma antes de limpiar</translation>
    </message>
    <message>
        <source>Spectrogram after cleaning</source>
        <translation>Espectrograma después de limpiar</translation>
    </message>
    <message>
        <source>Input level</source>
        <translation>Nivel de entrada</translation>
    </message>
    <message>
        <source>Output level</source>
        <translation>Nivel de salida</translation>
    </message>
    <message>
        <source>Gain over frequency, in dB</source>
        <translation>Ganancia por frecuencia, en dB</translation>
    </message>
    <message>
        <source>Before: what your microphone hears</source>
        <translation>Antes: lo que oye tu micrófono</translation>
    </message>
    <message>
        <source>Level</source>
        <translation>Nivel</translation>
    </message>
    <message>
        <source>Colours of levels</source>
        <translation>Colores de los niveles</translation>
    </message>
    <message>
        <source>Colours [dB]</source>
        <translation>Colores [dB]</translation>
    </message>
    <message>
        <source>After: what the others hear</source>
        <translation>Después: lo que oyen los demás</translation>
    </message>
    <message>
        <source>Gain [dB]</source>
        <translation>Ganancia [dB]</translation>
    </message>
</context>
<context>
    <name>ProfileBar</name>
    <message>
        <source>Profile</source>
        <translation>Perfil</translation>
    </message>
    <message>
        <source>Remembers devices, model and strength for a place</source>
        <translation>Recuerda dispositivos, modelo e intensidad para cada lugar</translation>
    </message>
    <message>
        <source>P&amp;rofile</source>
        <translation>Per&amp;fil</translation>
    </message>
    <message>
        <source>&amp;Add a profile…</source>
        <translation>&amp;Añadir un perfil…</translation>
    </message>
    <message>
        <source>Re&amp;name this profile…</source>
        <translation>Cambiar el &amp;nombre de este perfil…</translation>
    </message>
    <message>
        <source>&amp;Delete this profile…</source>
        <translation>&amp;Eliminar este perfil…</translation>
    </message>
    <message>
        <source>Change profiles</source>
        <translation>Cambiar perfiles</translation>
    </message>
    <message>
        <source>Add a profile</source>
        <translation>Añadir un perfil</translation>
    </message>
    <message>
        <source>Rename a profile</source>
        <translation>Cambiar el nombre de un perfil</translation>
    </message>
    <message>
        <source>Name of the profile:</source>
        <translation>Nombre del perfil:</translation>
    </message>
    <message>
        <source>Delete a profile</source>
        <translation>Eliminar un perfil</translation>
    </message>
    <message>
        <source>Delete the profile “{0}”?</source>
        <translation>¿Eliminar el perfil «{0}»?</translation>
    </message>
    <message>
        <source>What it remembers is lost.</source>
        <translation>Se perderá lo que recuerda.</translation>
    </message>
    <message>
        <source>&amp;Delete</source>
        <translation>&amp;Eliminar</translation>
    </message>
    <message>
        <source>&amp;Keep</source>
        <translation>&amp;Conservar</translation>
    </message>
    <message>
        <source>That name cannot be had.</source>
        <translation>Ese nombre no se puede usar.</translation>
    </message>
    <message>
        <source>A name has 1 to 40 characters, and no two profiles have the same.</source>
        <translation>Un nombre tiene de 1 a 40 caracteres y no hay dos perfiles con el mismo.</translation>
    </message>
</context>
<context>
    <name>SettingsDialog</name>
    <message>
        <source>Settings</source>
        <translation>Ajustes</translation>
    </message>
    <message>
        <source>When it starts</source>
        <translation>Al iniciar</translation>
    </message>
    <message>
        <source>&amp;Taking noise out</source>
        <translation>&amp;Quitar el ruido</translation>
    </message>
    <message>
        <source>&amp;Muted</source>
        <translation>&amp;Silenciado</translation>
    </message>
    <message>
        <source>Start at &amp;log-in, in the tray</source>
        <translation>A&amp;brir al iniciar sesión, en la bandeja</translation>
    </message>
    <message>
        <source>Always start &amp;hidden</source>
        <translation>Iniciar siempre &amp;oculto</translation>
    </message>
    <message>
        <source>Window</source>
        <translation>Ventana</translation>
    </message>
    <message>
        <source>L&amp;ook</source>
        <translation>As&amp;pecto</translation>
    </message>
    <message>
        <source>Lan&amp;guage</source>
        <translation>&amp;Idioma</translation>
    </message>
    <message>
        <source>&amp;Close to the tray: the sound goes on</source>
        <translation>Cerrar a la bandeja: el sonido si&amp;gue</translation>
    </message>
    <message>
        <source>Tell when a &amp;device comes or goes</source>
        <translation>A&amp;visar cuando se conecta o desconecta un dispositivo</translation>
    </message>
    <message>
        <source>Show denoise-app in the desktop&apos;s &amp;applications</source>
        <translation>&amp;Mostrar denoise-app entre las aplicaciones del escritorio</translation>
    </message>
    <message>
        <source>Shortcut from anywhere</source>
        <translation>Atajo desde cualquier programa</translation>
    </message>
    <message>
        <source>Turn cleaning on and o&amp;ff with a key</source>
        <translation>Activar y desactivar la limpieza con una &amp;tecla</translation>
    </message>
    <message>
        <source>&amp;Keys to ask for</source>
        <translation>Teclas que se pide&amp;n</translation>
    </message>
    <message>
        <source>Keys to ask for</source>
        <translation>Teclas que se piden</translation>
    </message>
    <message>
        <source>If something is wrong</source>
        <translation>Si algo va mal</translation>
    </message>
    <message>
        <source>Co&amp;py diagnostics</source>
        <translation>Copiar &amp;diagnóstico</translation>
    </message>
    <message>
        <source>Versions, devices and errors, to send to who helps; nothing private</source>
        <translation>Versiones, dispositivos y errores, para enviar a quien ayude; nada privado</translation>
    </message>
    <message>
        <source>&amp;Show logs</source>
        <translation>Mostrar &amp;registros</translation>
    </message>
    <message>
        <source>This desktop has no tray</source>
        <translation>Este escritorio no tiene bandeja</translation>
    </message>
    <message>
        <source>Off.</source>
        <translation>Desactivado.</translation>
    </message>
    <message>
        <source>Asking the desktop…</source>
        <translation>Preguntando al escritorio…</translation>
    </message>
    <message>
        <source>Works: {0}</source>
        <translation>Funciona: {0}</translation>
    </message>
    <message>
        <source>the desktop knows it</source>
        <translation>el escritorio lo conoce</translation>
    </message>
    <message>
        <source>The desktop refused it. Bind {0} to a key in the desktop&apos;s keyboard settings.</source>
        <translation>El escritorio lo ha rechazado. Asigna {0} a una tecla en los ajustes de teclado del escritorio.</translation>
    </message>
    <message>
        <source>This desktop lets no program ask for keys. Bind {0} to a key in its keyboard settings.</source>
        <translation>En este escritorio los programas no pueden pedir teclas. Asigna {0} a una tecla en sus ajustes de teclado.</translation>
    </message>
    <message>
        <source>Copied</source>
        <translation>Copiado</translation>
    </message>
    <message>
        <source>As it was left</source>
        <translation>Como se dejó</translation>
    </message>
    <message>
        <source>Yes</source>
        <translation>Sí</translation>
    </message>
    <message>
        <source>No</source>
        <translation>No</translation>
    </message>
    <message>
        <source>As the desktop</source>
        <translation>Como el escritorio</translation>
    </message>
    <message>
        <source>Light</source>
        <translation>Claro</translation>
    </message>
    <message>
        <source>Dark</source>
        <translation>Oscuro</translation>
    </message>
    <message>
        <source>High contrast</source>
        <translation>Alto contraste</translation>
    </message>
    <message>
        <source>The language changes at the next start.</source>
        <translation>El idioma cambia en el próximo inicio.</translation>
    </message>
    <message>
        <source>That could not be written: {0}</source>
        <translation>No se pudo escribir: {0}</translation>
    </message>
</context>
<context>
    <name>Shell</name>
    <message>
        <source>Your microphone goes on being cleaned. The window is here.</source>
        <translation>Tu micrófono se sigue limpiando. La ventana está aquí.</translation>
    </message>
    <message>
        <source>Turn cleaning on and off</source>
        <translation>Activar y desactivar la limpieza</translation>
    </message>
    <message>
        <source>Mute or unmute</source>
        <translation>Silenciar o dejar de silenciar</translation>
    </message>
</context>
<context>
    <name>Spectrogram</name>
    <message>
        <source>Paused</source>
        <translation>En pausa</translation>
    </message>
    <message>
        <source>−{0} s</source>
        <translation>−{0} s</translation>
    </message>
    <message>
        <source>now</source>
        <translation>ahora</translation>
    </message>
    <message>
        <source>{hz} Hz, {db} dB, {ago} s ago</source>
        <translation>{hz} Hz, {db} dB, hace {ago} s</translation>
    </message>
</context>
<context>
    <name>Still</name>
    <message>
        <source>{0} s</source>
        <translation>{0} s</translation>
    </message>
</context>
<context>
    <name>Tray</name>
    <message>
        <source>&amp;Open the window</source>
        <translation>&amp;Abrir la ventana</translation>
    </message>
    <message>
        <source>Take &amp;noise out</source>
        <translation>&amp;Quitar el ruido</translation>
    </message>
    <message>
        <source>&amp;Mute</source>
        <translation>&amp;Silenciar</translation>
    </message>
    <message>
        <source>&amp;Strength</source>
        <translation>&amp;Intensidad</translation>
    </message>
    <message>
        <source>&amp;Profile</source>
        <translation>Per&amp;fil</translation>
    </message>
    <message>
        <source>S&amp;ettings…</source>
        <translation>A&amp;justes…</translation>
    </message>
    <message>
        <source>&amp;Quit</source>
        <translation>&amp;Salir</translation>
    </message>
    <message>
        <source>Noise is taken out of your voice</source>
        <translation>Se quita el ruido de tu voz</translation>
    </message>
    <message>
        <source>Your voice goes through as it is</source>
        <translation>Tu voz pasa tal cual</translation>
    </message>
    <message>
        <source>Muted: nobody hears you</source>
        <translation>Silenciado: nadie te oye</translation>
    </message>
    <message>
        <source>Nobody listens: the microphone is off</source>
        <translation>Nadie escucha: el micrófono está apagado</translation>
    </message>
    <message>
        <source>No sound</source>
        <translation>Sin sonido</translation>
    </message>
    <message>
        <source>&amp;Gentle</source>
        <translation>&amp;Suave</translation>
    </message>
    <message>
        <source>&amp;Balanced</source>
        <translation>&amp;Equilibrada</translation>
    </message>
    <message>
        <source>&amp;Strong, no limit</source>
        <translation>&amp;Fuerte, sin límite</translation>
    </message>
</context>
<context>
    <name>_Marks</name>
    <message>
        <source>{0} dB</source>
        <translation>{0} dB</translation>
    </message>
</context>
<context>
    <name>text</name>
    <message>
        <source>Lost: {0}</source>
        <translation>Perdido: {0}</translation>
    </message>
    <message>
        <source>Found again: {0}</source>
        <translation>Disponible de nuevo: {0}</translation>
    </message>
    <message>
        <source>New device: {0}</source>
        <translation>Dispositivo nuevo: {0}</translation>
    </message>
    <message>
        <source>Device gone: {0}</source>
        <translation>Dispositivo desconectado: {0}</translation>
    </message>
</context>
</TS>
